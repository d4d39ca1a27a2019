"""From a source in `[data]` to images: generated, MedMNIST, a folder, DICOM."""

from dataclasses import replace
from pathlib import Path

from qhybrid.data.dataset import ImageDataset, Split, check_dataset
from qhybrid.data.dicom import load_dicom
from qhybrid.data.folder import load_folder
from qhybrid.data.generated import load_angiography
from qhybrid.data.medmnist import load_medmnist
from qhybrid.data.partition import stratified_draw
from qhybrid.data.spec import DataSpec, parse_source

__all__ = ["ImageDataset", "Split", "load_dataset"]


def load_dataset(spec: DataSpec, *, cache_dir: Path | None = None, unreadable: list[str] | None = None) -> ImageDataset:
    """Load the images that a `[data]` table asks for.

    Args:
        spec: The table.
        cache_dir: Where generated images are kept; None: the user's cache folder.
        unreadable: None raises for the first file that cannot be read; a list collects one sentence for each
            such file of a `folder:` or `dicom:` source and leaves the file out, for the audit.

    Returns:
        Train, validation and test, each with at least two classes.

    Raises:
        InputError: Something is missing, damaged or of the wrong kind; one line that names it.
    """
    kind, path = parse_source(spec.source)
    if path is None:
        dataset = load_angiography(spec.angiography, image_size=spec.image_size, cache_dir=cache_dir)
    elif kind == "medmnist":
        dataset = load_medmnist(path, name=spec.source, image_size=spec.image_size)
    elif kind == "folder":
        dataset = load_folder(
            path,
            name=spec.source,
            image_size=spec.image_size,
            fractions=spec.fractions,
            split_seed=spec.split_seed,
            unreadable=unreadable,
        )
    else:
        dataset = load_dicom(
            path,
            name=spec.source,
            image_size=spec.image_size,
            csv_name=spec.dicom.csv,
            frame=spec.dicom.frame,
            fractions=spec.fractions,
            split_seed=spec.split_seed,
            unreadable=unreadable,
        )
    if spec.limit is not None:
        dataset = limited(dataset, spec.limit, seed=spec.split_seed)
    return check_dataset(dataset)


def limited(dataset: ImageDataset, limit: int, *, seed: int) -> ImageDataset:
    """Keep at most so many images of each split, drawn class by class.

    Args:
        dataset: All images.
        limit: Of a split.
        seed: Of the draw.
    """
    splits = {
        name: split.subset(stratified_draw(split.labels.numpy(), limit, seed=seed).tolist())
        for name, split in dataset.splits.items()
    }
    return replace(dataset, splits=splits)
