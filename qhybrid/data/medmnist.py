"""MedMNIST files: one npz with the images and labels of three splits (https://medmnist.com)."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from qhybrid.data.dataset import ImageDataset, Split
from qhybrid.data.images import nearest_path
from qhybrid.data.npz import read_npz
from qhybrid.errors import InputError

_KEYS = {"train": "train", "validation": "val", "test": "test"}

_ORGANS = (
    "bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left",
    "lung-right", "pancreas", "spleen",
)  # fmt: skip
CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "bloodmnist": (
        "basophil", "eosinophil", "erythroblast", "immature granulocytes", "lymphocyte", "monocyte", "neutrophil",
        "platelet",
    ),
    "breastmnist": ("malignant", "normal, benign"),
    "dermamnist": (
        "actinic keratoses", "basal cell carcinoma", "benign keratosis-like lesions", "dermatofibroma", "melanoma",
        "melanocytic nevi", "vascular lesions",
    ),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
    "pathmnist": (
        "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
        "cancer-associated stroma", "colorectal adenocarcinoma epithelium",
    ),
    "pneumoniamnist": ("normal", "pneumonia"),
    "retinamnist": ("severity 0", "severity 1", "severity 2", "severity 3", "severity 4"),
    "tissuemnist": (
        "collecting duct, connecting tubule", "distal convoluted tubule", "glomerular endothelial cells",
        "interstitial endothelial cells", "leukocytes", "podocytes", "proximal tubule segments",
        "thick ascending limb",
    ),
}  # fmt: skip
"""Class names by file stem without a size suffix, from the MedMNIST v2 data sheet."""


def load_medmnist(path: Path, *, name: str, image_size: int) -> ImageDataset:
    """Load a MedMNIST 2D file: grey or RGB, two or more classes, one label an image.

    Args:
        path: The npz with `{train,val,test}_{images,labels}`; images (N, h, w[, 1 or 3]) uint8, labels (N, 1).
        name: The source as the user wrote it.
        image_size: Height and width in pixels of what the splits give.

    Returns:
        The data set at native resolution, ids `train/17`.

    Raises:
        InputError: The file is missing, truncated, no npz, lacks an array, or is multi-label or 3D.
    """
    if not path.is_file():
        raise InputError(f"data source {name!r}: file does not exist; {nearest_path(path)}")
    arrays = read_npz(path, [f"{key}_{part}" for key in _KEYS.values() for part in ("images", "labels")])
    splits = {}
    for split, key in _KEYS.items():
        images = _images(arrays[f"{key}_images"], f"{path}: {key}_images")
        labels = _labels(arrays[f"{key}_labels"], f"{path}: {key}_labels")
        if len(images) != len(labels):
            raise InputError(f"{path}: {key}_images has {len(images)} entries and {key}_labels {len(labels)}")
        ids = tuple(f"{split}/{index}" for index in range(len(labels)))
        splits[split] = Split(torch.from_numpy(images), torch.from_numpy(labels), ids, image_size)
    return ImageDataset(name, _class_names(path, splits), splits)


def _images(images: NDArray[np.generic], where: str) -> NDArray[np.uint8]:
    if images.ndim == 5 or (images.ndim == 4 and images.shape[-1] not in (1, 3)):
        raise InputError(f"{where} has shape {images.shape}: 3D volumes are not supported, only 2D MedMNIST sets")
    if images.ndim not in (3, 4):
        raise InputError(f"{where} has shape {images.shape}; allowed: (N, h, w), (N, h, w, 1) or (N, h, w, 3)")
    if images.dtype != np.uint8:
        raise InputError(f"{where} is {images.dtype}; allowed: uint8")
    channels_last = images if images.ndim == 4 else images[..., None]
    return np.ascontiguousarray(np.moveaxis(channels_last, -1, 1)).view(np.uint8)


def _labels(labels: NDArray[np.generic], where: str) -> NDArray[np.int64]:
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise InputError(
            f"{where} has shape {labels.shape}: multi-label sets are not supported, only one label an image"
        )
    if labels.ndim not in (1, 2) or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"{where} is {labels.dtype} of shape {labels.shape}; allowed: integers (N, 1) or (N,)")
    return labels.reshape(-1).astype(np.int64)


def _class_names(path: Path, splits: dict[str, Split]) -> tuple[str, ...]:
    known = CLASS_NAMES.get(path.stem.lower().split("_")[0])
    if known is not None:
        return known
    highest = max((int(split.labels.max()) for split in splits.values() if len(split)), default=0)
    return tuple(f"class {label}" for label in range(highest + 1))
