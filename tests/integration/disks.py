"""Real file systems that misbehave: a small ext4 on a loop device. Mounting takes root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SIZE_MIB = 32
FILLER = "filler"
SLOW_BYTES_PER_S = 100_000
_V1 = Path("/sys/fs/cgroup/blkio")
_V2 = Path("/sys/fs/cgroup")


class Disk:
    """A mounted file system of its own at `place`, until closed."""

    def __init__(self, folder: Path) -> None:
        self.place = folder / "disk"
        self._image = folder / "disk.img"
        self._slowed: list[Path] = []
        with self._image.open("wb") as stream:
            stream.truncate(SIZE_MIB << 20)
        _run("mkfs.ext4", "-q", "-m", "0", str(self._image))
        self.place.mkdir()
        self._mount()

    def fill(self) -> None:
        """Take all of the room that is left."""
        with (self.place / FILLER).open("wb", buffering=0) as stream:
            piece = 1 << 20
            while piece:
                with suppress(OSError):
                    while stream.write(bytes(piece)):
                        pass
                piece //= 2

    def free(self) -> None:
        """Give that room back."""
        (self.place / FILLER).unlink()

    def fail(self) -> None:
        """Have the kernel find a fault: from now on it refuses every write."""
        (Path("/sys/fs/ext4") / self._device.name / "trigger_fs_error").write_text("1")

    def repair(self) -> None:
        """What an administrator does then, with nobody using it."""
        _run("umount", str(self.place))
        _run("e2fsck", "-p", "-f", str(self._image), good=(0, 1))
        self._mount()

    @contextmanager
    def slow(self, pid: int) -> Iterator[None]:
        """Let a process write only a little a second."""
        numbers = Path(f"/sys/block/{self._device.name}/dev").read_text().strip()
        if _V1.is_dir():
            group, setting = _V1 / f"rf-{pid}", "blkio.throttle.write_bps_device"
            limit = f"{numbers} {SLOW_BYTES_PER_S}"
        else:
            group, setting = _V2 / f"rf-{pid}", "io.max"
            limit = f"{numbers} wbps={SLOW_BYTES_PER_S}"
            (_V2 / "cgroup.subtree_control").write_text("+io")
        group.mkdir()
        try:
            (group / setting).write_text(limit)
            (group / "cgroup.procs").write_text(str(pid))
            yield
        finally:
            (group.parent / "cgroup.procs").write_text(str(pid))
            group.rmdir()

    def close(self) -> None:
        """Unmount it as soon as nothing that was killed holds it any more."""
        _run("umount", "--lazy", str(self.place))

    def _mount(self) -> None:
        options = "loop,errors=remount-ro"
        _run("mount", "-o", options, str(self._image), str(self.place))
        self._device = Path(_run("findmnt", "-no", "SOURCE", str(self.place)).strip())


def may_mount(folder: Path) -> bool:
    """Whether this process may do any of this."""
    if os.geteuid() != 0:
        return False
    try:
        Disk(folder).close()
    except RuntimeError:
        return False
    return True


def _run(*command: str, good: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode not in good:
        message = f"{command}: {done.stderr.strip()}"
        raise RuntimeError(message)
    return done.stdout
