"""Named arrays from an npz file, without ever unpickling."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.errors import InputError, did_you_mean


def read_npz(path: Path, wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read arrays by name.

    Args:
        path: The file.
        wanted: Names of the arrays.

    Returns:
        Name -> array.

    Raises:
        InputError: The file is damaged, no npz, holds pickled objects, or lacks an array; one line that names it.
    """
    try:
        # Opened here: numpy leaves the file open where its beginning is all right and its end is missing.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"{path}: a single array, not an npz file; it needs {', '.join(wanted)}")
            with archive:
                for name in wanted:
                    if name not in archive.files:
                        raise InputError(f"{path}: array {name!r} is missing; {did_you_mean(name, archive.files)}")
                return {name: archive[name] for name in wanted}
    except InputError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: not a readable npz file, truncated perhaps ({reason})") from None
