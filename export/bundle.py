"""Writing a bundle: every file to disk, then the manifest that names them, then one rename."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from reefleet.blobs import sha256_hex
from reefleet.errors import InputError, StoreError, StoreFull
from reefleet.wire.manifest import FileEntry, SubmodelBundle, TaskBundle
from reefleet.wire.manifest_json import to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MANIFEST = "manifest.json"


def entries(files: Mapping[str, bytes]) -> dict[str, FileEntry]:
    """Digest and size of each file, in order of name."""
    return {name: FileEntry(sha256_hex(files[name]), len(files[name])) for name in sorted(files)}


def require_replaceable(folder: Path) -> None:
    """Raise InputError where `folder` is something else than a bundle or an empty folder."""
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / MANIFEST).exists()):
        msg = f"{folder} exists and is not a bundle; name another folder"
        raise InputError(msg)


def write_bundle(
    folder: Path, manifest: TaskBundle | SubmodelBundle, files: Mapping[str, bytes]
) -> str:
    """Write a whole bundle or nothing; gives the manifest's sha256.

    Raises InputError where `folder` already holds something that is no bundle, StoreError where
    the disk refuses.
    """
    data = to_bytes(manifest)
    with _beside(folder) as fresh:
        for name, content in {**files, MANIFEST: data}.items():
            _write(fresh / name, content)
        _replace(folder, fresh)
    return sha256_hex(data)


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    missing = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        _remove_empty(missing)
        msg = f"cannot write in {folder.parent}: {error.strerror}"
        raise _refused(error, msg) from error
    try:
        fresh.chmod(0o755)
        yield fresh
    except OSError as error:
        msg = f"cannot write the bundle {folder}: {error.strerror}"
        raise _refused(error, msg) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        _remove_empty(missing)


def _refused(error: OSError, msg: str) -> StoreError:
    return (StoreFull if error.errno == errno.ENOSPC else StoreError)(msg)


def _remove_empty(folders: Sequence[Path]) -> None:
    """Folders made for a bundle that did not come about, the innermost first."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _replace(folder: Path, fresh: Path) -> None:
    require_replaceable(folder)
    if folder.exists():
        shutil.rmtree(folder)
    fresh.rename(folder)
    with suppress(OSError):
        handle = os.open(folder.parent, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
