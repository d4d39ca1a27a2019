"""A folder of image files: train, validation and test with a folder a class, or one folder a class."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from qhybrid.data.dataset import ImageDataset, Split
from qhybrid.data.images import IMAGE_SUFFIXES, nearest_path, read_image, read_images
from qhybrid.data.partition import stratified
from qhybrid.data.spec import SPLITS
from qhybrid.errors import InputError

SPLIT_FOLDERS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
}
"""Folder name -> split."""


def load_folder(
    root: Path,
    *,
    name: str,
    image_size: int,
    fractions: tuple[float, float, float],
    split_seed: int,
    unreadable: list[str] | None = None,
) -> ImageDataset:
    """Load `root/{train,validation,test}/{class}/*.png`, or `root/{class}/*.png` split by stratified fractions.

    Args:
        root: The folder. Class names are the folders' names in alphabetical order.
        name: The source as the user wrote it.
        image_size: Height and width in pixels of what the splits give.
        fractions: Shares of train, validation and test where the folder has no splits.
        split_seed: Seed of that split.
        unreadable: None raises for a file that cannot be read; a list collects them instead.

    Returns:
        The data set; an image's id is its path relative to `root`.

    Raises:
        InputError: The folder or a split is missing, a class has no images, or a file cannot be read.
    """
    if not root.is_dir():
        raise InputError(f"data source {name!r}: folder does not exist; {nearest_path(root)}")
    subfolders = _subfolders(root)
    if any(folder.name.lower() in SPLIT_FOLDERS for folder in subfolders):
        files = _files_of_splits(root, subfolders, name)
        class_names = tuple(sorted({path.parent.name for paths in files.values() for path in paths}))
    else:
        class_names = tuple(folder.name for folder in subfolders)
        if len(class_names) < 2:
            raise InputError(
                f"data source {name!r}: {root} holds {len(class_names)} folder(s); it needs train, validation and "
                "test, or one folder for each of at least two classes"
            )
        everything = [path for folder in subfolders for path in _files_of_class(folder, name)]
        labels = [class_names.index(path.parent.name) for path in everything]
        parts = stratified(labels, fractions, seed=split_seed, where=f"data source {name!r}")
        files = {split: [everything[index] for index in parts[split]] for split in SPLITS}
    make = partial(_split, root=root, class_names=class_names, image_size=image_size, unreadable=unreadable)
    return ImageDataset(name, class_names, {split: make(files[split]) for split in SPLITS})


def _split(
    paths: Sequence[Path],
    *,
    root: Path,
    class_names: tuple[str, ...],
    image_size: int,
    unreadable: list[str] | None,
) -> Split:
    images, kept = read_images(paths, read_image, image_size=image_size, unreadable=unreadable)
    labels = torch.tensor([class_names.index(paths[index].parent.name) for index in kept], dtype=torch.int64)
    ids = tuple(paths[index].relative_to(root).as_posix() for index in kept)
    return Split(images, labels, ids, image_size)


def _files_of_splits(root: Path, subfolders: list[Path], name: str) -> dict[str, list[Path]]:
    by_split: dict[str, Path] = {}
    for folder in subfolders:
        split = SPLIT_FOLDERS.get(folder.name.lower())
        if split is None:
            continue
        if split in by_split:
            raise InputError(f"data source {name!r}: {by_split[split].name!r} and {folder.name!r} are both {split}")
        by_split[split] = folder
    for split in SPLITS:
        if split not in by_split:
            found = ", ".join(folder.name for folder in subfolders)
            raise InputError(f"data source {name!r}: {root} has no {split!r} folder; found: {found}")
    classes = {split: {folder.name: folder for folder in _subfolders(by_split[split])} for split in SPLITS}
    for class_name in sorted(set().union(*classes.values())):
        for split in SPLITS:
            if class_name not in classes[split]:
                raise InputError(
                    f"data source {name!r}: {by_split[split]} has no folder for class {class_name!r}; "
                    f"found: {', '.join(classes[split]) or 'none'}"
                )
    return {
        split: [path for folder in classes[split].values() for path in _files_of_class(folder, name)]
        for split in SPLITS
    }


def _files_of_class(folder: Path, name: str) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not files:
        allowed = ", ".join(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
        raise InputError(f"data source {name!r}: class folder {folder} has no images (allowed: {allowed})")
    return files


def _subfolders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__")))
