"""From image files to probabilities."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from qhybrid.data.dataset import Split
from qhybrid.data.dicom import read_dicom
from qhybrid.data.images import IMAGE_SUFFIXES, read_image, read_images
from qhybrid.data.spec import DataSpec
from qhybrid.experiments.heads_generated import GeneratedMLPHead
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.spec import DeviceChoice
from qhybrid.experiments.split_predictions import predict_logits, softmax


def predict(run: Run, paths: Sequence[Path | str], *, device: DeviceChoice | None = None) -> NDArray[np.float64]:
    """Classify image files, from the pixels on.

    Args:
        run: A complete run.
        paths: PNG, JPEG, BMP, TIFF or WebP files; DICOM too for a run that was trained on DICOM.
        device: What runs the quantum layer; None: the device of the training.

    Returns:
        Probabilities, (len(paths), C), in the order of `run.class_names`.

    Raises:
        InputError: A file is missing or damaged; names it.
    """
    images = torch.cat([_as_trained(Path(path), run.spec.data) for path in paths])
    model = run.load_model(device)
    head = model.head
    if device is None and isinstance(head, GeneratedMLPHead):
        head = head.without_device()
    with torch.no_grad():
        return softmax(predict_logits(head, model.backbone_features(images)))


def _as_trained(path: Path, spec: DataSpec) -> torch.Tensor:
    """One file as its source would have given it to the training: (1, 3, size, size) in [0, 1]."""
    read = read_image
    if path.suffix.lower() not in IMAGE_SUFFIXES and spec.source.startswith("dicom:"):
        read = partial(read_dicom, frame=spec.dicom.frame)
    pixels, _ = read_images([path], read, image_size=spec.image_size, unreadable=None)
    return Split(pixels, torch.zeros(1, dtype=torch.int64), (path.name,), spec.image_size).batch()
