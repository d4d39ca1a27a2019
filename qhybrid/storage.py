"""Files that are either whole or not there: written to a temporary name, synced, then moved into place."""

import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from qhybrid.errors import InputError


def write_atomically(
    path: Path, write: Callable[[BinaryIO], object], *, private: bool = False, durable: bool = True
) -> None:
    """Write a file so that a crash at any moment leaves the old one or the new one, never a part.

    Args:
        path: The file; its folder is made if need be.
        write: Writes the content to an open binary file.
        private: Readable by its owner only.
        durable: Down to the disk before this returns, so that it survives a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb", opener=_open_privately if private else None) as file:
            write(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if durable and os.name == "posix":  # the rename itself must survive, too; Windows cannot open folders
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _open_privately(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


def write_bytes(path: Path, content: bytes, *, private: bool = False, durable: bool = True) -> None:
    """Write a file in one piece (see `write_atomically`)."""
    write_atomically(path, lambda file: file.write(content), private=private, durable=durable)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a text file in one piece, UTF-8."""
    write_bytes(path, text.encode("utf-8"), durable=durable)


def write_json(path: Path, value: Mapping[str, Any], *, durable: bool = True) -> None:
    """Write a JSON file in one piece; values that are not finite are refused rather than written as NaN."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", durable=durable)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an NPZ file in one piece; no array may hold Python objects, which only a pickle could carry."""
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"array {name!r} holds Python objects")
    named: dict[str, Any] = dict(arrays)
    write_atomically(path, lambda file: np.savez(file, **named))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        InputError: The file is missing or damaged; names it.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: does not exist") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: damaged, not readable as JSON ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: damaged, does not hold a JSON object")
    return value


def read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Read named arrays from an NPZ file, never unpickling.

    Args:
        path: The file.
        names: The arrays that must be there; others are not read.

    Raises:
        InputError: The file is missing, damaged or lacks an array; names it.
    """
    try:
        # Opened here because np.load leaves a damaged file open.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            missing = [name for name in names if name not in file.files]
            if missing:
                raise InputError(f"{path}: damaged, has no array {missing[0]!r} (it has {', '.join(file.files)})")
            return {name: file[name] for name in names}
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: does not exist") from None
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds for damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: damaged, not readable as NPZ ({reason})") from None


@contextmanager
def locked(folder: Path, held: Callable[[], None]) -> Iterator[None]:
    """Hold a folder for writing; the operating system lets go of it when the process ends, however it ends.

    What another process left half written there, because it was killed, is removed.

    Args:
        folder: It exists.
        held: Called where another process holds it, which is then waited for; it may raise instead.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            held()
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left_over in folder.glob("**/.*.tmp"):
            left_over.unlink(missing_ok=True)
        yield
