"""Files of the emulator's state folder, each written whole or not at all."""

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def write_atomically(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write a file through a temporary one beside it.

    Args:
        path: Replaced if it is there.
        content: All of it.
        private: Readable by its owner only.
    """
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o600 if private else 0o644)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


class FolderLock:
    """One process at a time has a folder; the lock ends with the process, however it ends.

    Raises:
        BlockingIOError: Another one has it.
    """

    def __init__(self, folder: Path) -> None:
        self._file = (folder / ".lock").open("w")
        if fcntl is not None:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._file.close()
                raise

    def release(self) -> None:
        """Let others have the folder."""
        self._file.close()


def write_json(path: Path, content: Any) -> None:
    """Write JSON through a temporary file."""
    write_atomically(path, json.dumps(content, indent=1).encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
