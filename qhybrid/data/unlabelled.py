"""A folder of images without labels, at any depth."""

import os
from pathlib import Path

import torch

from qhybrid.data.dataset import Split
from qhybrid.data.images import IMAGE_SUFFIXES, nearest_path, read_image, read_images
from qhybrid.errors import InputError


def load_unlabelled(root: Path, *, name: str, image_size: int) -> Split:
    """Read every image file under a folder.

    Args:
        root: The folder; names that begin with a dot are left out.
        name: The source as the user wrote it, for errors.
        image_size: Height and width in pixels of what the split gives.

    Returns:
        The images in the order of their paths, with label 0, which says nothing; an id is a path relative to `root`.

    Raises:
        InputError: The folder is missing or has no image, or a file cannot be read.
    """
    if not root.is_dir():
        raise InputError(f"images {name!r}: folder does not exist; {nearest_path(root)}")
    paths = []
    for folder, below, files in os.walk(root):
        below[:] = [entry for entry in below if not entry.startswith(".")]
        paths += [Path(folder) / file for file in files if not file.startswith(".")]
    paths = sorted(path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        allowed = ", ".join(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
        raise InputError(f"images {name!r}: no image in {str(root)!r} or below (allowed: {allowed})")
    images, _ = read_images(paths, read_image, image_size=image_size, unreadable=None)
    ids = tuple(path.relative_to(root).as_posix() for path in paths)
    return Split(images, torch.zeros(len(images), dtype=torch.int64), ids, image_size)
