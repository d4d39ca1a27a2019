"""The lock of the emulator's state folder."""

from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


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
