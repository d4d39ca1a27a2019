"""From a source in `[data]` to images: generated, MedMNIST, a folder, DICOM."""

from pathlib import Path

from qhybrid.data.dataset import ImageDataset, Split, check_dataset
from qhybrid.data.dicom import load_dicom
from qhybrid.data.folder import load_folder
from qhybrid.data.generated import load_angiography
from qhybrid.data.medmnist import load_medmnist
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
    return check_dataset(dataset)
