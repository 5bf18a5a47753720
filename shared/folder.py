"""Files that appear whole or not at all: temporary file, flush to disk, rename."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from shared.errors import BadInput, Unreachable, VerificationFailure

PRIVATE = 0o600
PUBLIC = 0o644
PRIVATE_FOLDER = 0o700


class _Folder(Protocol):
    @property
    def folder(self) -> Path: ...


class At:
    """A place in the `folder` of what has it as an attribute."""

    def __init__(self, *parts: str) -> None:
        self._parts = parts

    def __get__(self, of: _Folder, kind: type) -> Path:
        return of.folder.joinpath(*self._parts)


def write(path: Path, data: bytes, mode: int = PUBLIC) -> None:
    """Replace `path` by `data` atomically. Raises `Unreachable`; `path` then holds the old bytes or the new, whole."""
    make(path.parent)
    with writing(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fchmod(stream.fileno(), mode)
                os.fsync(stream.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        flush(path.parent)


def create(path: Path, files: Mapping[str, bytes]) -> None:
    """Make the folder `path`, which must not exist, holding `files`: all of them or no folder."""
    with appearing(path) as fresh:
        for name, data in files.items():
            write(fresh / name, data)


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A fresh folder that takes the place `path`, which must not exist, when the body is done; else nothing stays."""
    make(path.parent)
    with writing(path):
        fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield fresh
        with writing(path):
            fresh.rename(path)
            flush(path.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def make(path: Path, mode: int = 0o777) -> None:
    """Make the folder `path` unless it is there, of `mode` less the umask. Raises `Unreachable`."""
    with writing(path):
        path.mkdir(mode, parents=True, exist_ok=True)


def hide_from_git(path: Path) -> None:
    """Have git take nothing in the folder `path` for source, wherever it lies. Raises `Unreachable`."""
    write(path / ".gitignore", b"*\n")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises `Unreachable`, which says why `path` cannot be written, where the file system refuses the body."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else "failed"
        raise Unreachable(
            f"cannot be written: {reason}", field=str(path), remedy="check the folder, its permissions and free space"
        ) from error


@contextmanager
def permitted() -> Iterator[None]:
    """Raises `Unreachable` where the file system refuses the body something, whatever it was about to do."""
    try:
        yield
    except OSError as error:
        # what is not there was not refused: a fault of ours, or of a caller's function
        if error.filename is None or error.errno is None or error.errno == errno.ENOENT:
            raise
        remedy = "run as its owner, or make it yours" if isinstance(error, PermissionError) else "check that path"
        raise Unreachable(os.strerror(error.errno).lower(), field=str(error.filename), remedy=remedy) from error


def there_already(path: Path, remedy: str) -> BadInput:
    """What refuses to replace that which stands at `path`."""
    return BadInput("it is there already", field=str(path), remedy=remedy)


def read(path: Path, remedy: str, most: int | None = None) -> bytes:
    """All bytes of a file of ours, or of one that somebody handed over and that holds at most `most`.

    Raises `Unreachable` with `remedy` if it is not there. Of a file handed over no more is read than one byte beyond
    `most`: raises `BadInput` if it is longer, or a pipe or a device.
    """
    try:
        if most is None:
            return path.read_bytes()
        check_no_pipe(path)
        with path.open("rb") as stream:
            data = stream.read(min(os.fstat(stream.fileno()).st_size, most) + 1)
    except OSError as error:
        raise Unreachable("cannot be read", field=str(path), remedy=remedy) from error
    if len(data) > most:
        raise BadInput("the file is larger than the limit", field=str(path), remedy=remedy)
    return data


def check_no_pipe(path: Path) -> None:
    """Raises `BadInput` for a pipe or a device: to open it may wait, and to read it never end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise BadInput("is a pipe or a device, not a file", field=str(path), remedy="save it as a file first")


@contextmanager
def intact(path: Path, remedy: str) -> Iterator[None]:
    """Raises `Unreachable` with `remedy` where the body refuses what stands in a file of ours: its own is for bytes
    that somebody sent."""
    try:
        yield
    except VerificationFailure as error:
        raise Unreachable(f"damaged: {error.problem}", field=str(path), remedy=remedy) from error


@contextmanager
def locked(path: Path, waits: bool = True) -> Iterator[None]:
    """Hold the lock file `path`, which only one process and thread can at a time, while the body runs.

    Raises `Unreachable` where somebody else holds it and `waits` is false.
    """
    make(path.parent)
    with writing(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unreachable(
                "another run holds it", field=str(path), remedy="wait until that has ended, or stop it"
            ) from error
        yield
    finally:
        os.close(handle)


def flush(path: Path) -> None:
    """Force a file, or what a folder lists, to the disk. Raises `OSError`."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
