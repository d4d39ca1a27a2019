"""The generated angiographies as a data set, kept in the user's cache folder."""

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from platformdirs import user_cache_dir

from qhybrid.data.angiography import GENERATOR_VERSION, generate
from qhybrid.data.dataset import ImageDataset, Split
from qhybrid.data.npz import read_npz
from qhybrid.data.spec import SPLITS, AngiographySpec
from qhybrid.errors import InputError

CLASS_NAMES = ("negative", "positive")

Arrays = dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]


def load_angiography(spec: AngiographySpec, *, image_size: int, cache_dir: Path | None = None) -> ImageDataset:
    """Load the generated images, or generate and keep them.

    Args:
        spec: View, counts, size, difficulty, seed.
        image_size: Height and width in pixels of what the splits give.
        cache_dir: Where the file is kept; None: the user's cache folder. A folder that cannot be written to is
            no error: the images are then generated again next time.

    Returns:
        The data set, ids `train/17`; class 1 is positive (stenosis).
    """
    path = cache_path(spec, cache_dir)
    arrays = _read(path, spec)
    if arrays is None:
        arrays = generate(spec)
        # Two processes may generate at once: each writes its own file, and the last rename wins with equal bytes.
        with contextlib.suppress(OSError):
            _write(path, arrays)
    splits = {}
    for name in SPLITS:
        images, labels = arrays[name]
        ids = tuple(f"{name}/{index}" for index in range(len(labels)))
        splits[name] = Split(torch.from_numpy(images)[:, None], torch.from_numpy(labels), ids, image_size)
    return ImageDataset("angiography", CLASS_NAMES, splits)


def cache_path(spec: AngiographySpec, cache_dir: Path | None = None) -> Path:
    """The file that keeps the images of these settings."""
    key = hashlib.sha256(f"{GENERATOR_VERSION} {spec.model_dump_json()}".encode()).hexdigest()[:16]
    return (cache_dir or Path(user_cache_dir("qhybrid"))) / f"angiography-{spec.view}-{key}.npz"


def _read(path: Path, spec: AngiographySpec) -> Arrays | None:
    """What the cache holds, or None where it holds nothing usable."""
    try:
        found = read_npz(path, [f"{name}_{part}" for name in SPLITS for part in ("images", "labels")])
    except InputError:  # not there, or damaged: it will be written anew
        return None
    arrays = {name: (found[f"{name}_images"], found[f"{name}_labels"]) for name in SPLITS}
    for name, (images, labels) in arrays.items():
        expected = sum(getattr(spec, name))
        if images.dtype != np.uint8 or images.ndim != 3 or not len(images) == len(labels) == expected:
            return None
    return arrays


def _write(path: Path, arrays: Arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=path.name, suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            named: dict[str, Any] = {f"{name}_images": images for name, (images, _) in arrays.items()}
            named |= {f"{name}_labels": labels for name, (_, labels) in arrays.items()}
            np.savez_compressed(file, **named)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
