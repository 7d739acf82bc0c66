"""Reading a system's files through a root that tests can set; what cannot be read is unknown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Tree:
    """A file system whose root may be elsewhere. No reader here ever raises."""

    root: Path = Path("/")

    def text(self, path: str) -> str:
        """The file's text without surrounding blanks and zero bytes; '' where there is none."""
        try:
            with (self.root / path).open("rb") as file:
                data = file.read(_MOST_BYTES)
        except (OSError, ValueError):
            return ""
        return data.decode("utf-8", "replace").strip("\0 \t\r\n")

    def number(self, path: str) -> float | None:
        """The first word as a finite decimal number; None where it is none."""
        words = self.text(path).split()
        try:
            value = float(words[0])
        except (IndexError, ValueError):
            return None
        return value if value - value == 0 else None

    def lines(self, path: str) -> list[str]:
        """The file's lines."""
        return self.text(path).splitlines()

    def field(self, path: str, name: str, separator: str = ":") -> str:
        """The value on the first line `name: value`; '' where there is none."""
        for line in self.lines(path):
            key, found, value = line.partition(separator)
            if found and key.strip() == name:
                return value.strip().strip('"')
        return ""

    def entries(self, path: str) -> list[str]:
        """Names in a folder, in order, each with the folder's path before it."""
        try:
            return sorted(f"{path}/{entry.name}" for entry in (self.root / path).iterdir())
        except (OSError, ValueError):
            return []
