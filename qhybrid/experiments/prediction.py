"""From features, or from image files, to logits and probabilities."""

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
from qhybrid.experiments.heads import ClassifierHead
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.spec import DeviceChoice


@torch.no_grad()
def predict_logits(head: ClassifierHead, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Send features through a head; its quantum layer gets all of them in one batch.

    Args:
        head: In evaluation mode.
        features: (N, F).

    Returns:
        In double precision: logits (N, C), expectation values (N, M) and their standard errors (N, M); M is 0 for
        a classical head.
    """
    if head.layer is None:
        nothing = torch.zeros(len(features), 0, dtype=torch.float64)
        return head(features).double(), nothing, nothing
    estimates = head.layer.estimate(head.quantum_features(features))
    return head.logits(estimates.values).double(), estimates.values.double(), estimates.stderr.double()


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
    with torch.no_grad():
        logits, _, _ = predict_logits(model.head, model.backbone_features(images))
    probabilities: NDArray[np.float64] = torch.softmax(logits, dim=1).numpy()
    return probabilities


def _as_trained(path: Path, spec: DataSpec) -> torch.Tensor:
    """One file as its source would have given it to the training: (1, 3, size, size) in [0, 1]."""
    read = read_image
    if path.suffix.lower() not in IMAGE_SUFFIXES and spec.source.startswith("dicom:"):
        read = partial(read_dicom, frame=spec.dicom.frame)
    pixels, _ = read_images([path], read, image_size=spec.image_size, unreadable=None)
    return Split(pixels, torch.zeros(1, dtype=torch.int64), (path.name,), spec.image_size).batch()
