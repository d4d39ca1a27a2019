"""Adapt a trained network to images without their labels: entropy minimisation on its batch normalisation (Tent)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from qhybrid.data.centres_spec import TestTimeSpec
from qhybrid.data.dataset import Split
from qhybrid.errors import InputError, QHybridError
from qhybrid.experiments.model import HybridClassifier
from qhybrid.experiments.run_folder import Features, Run
from qhybrid.experiments.seeding import derive_seed
from qhybrid.experiments.spec import DeviceChoice
from qhybrid.experiments.split_predictions import REFERENCE_DEVICE
from qhybrid.experiments.training_data import load_data


@dataclass(frozen=True)
class Adapted:
    """What a network makes of the images of a split once it is adapted to them."""

    features: Features
    """Of the whole split, in its order."""
    spec: TestTimeSpec
    layers: int
    """Batch normalisations."""
    parameters: int
    """Their scales and shifts, which were trained."""
    entropy: tuple[float, float]
    """Mean entropy of the predictions in nats, of the run as it is and at the end."""

    @property
    def label(self) -> str:
        """Names what is evaluated, such as `tent10x0.001`."""
        batch = "" if self.spec.batch_size == TestTimeSpec().batch_size else f"-batch{self.spec.batch_size}"
        return f"tent{self.spec.steps}x{self.spec.learning_rate:g}{batch}"

    def to_dict(self) -> dict[str, Any]:
        """What a result says of it."""
        found = {"method": "tent", "layers": self.layers, "parameters": self.parameters}
        return self.spec.model_dump() | found | {"entropy": list(self.entropy)}


def adapt_to_images(run: Run, spec: TestTimeSpec, *, split: str = "test", seed: int = 0) -> Adapted:
    """Adapt a run to the images of a split, without looking at their labels.

    Tent (Wang et al., ICLR 2021), offline: every batch normalisation of the CNN takes mean and variance from the batch
    that it sees, and its scale and shift are trained by Adam to lower the mean entropy of the predictions; all else
    stays. The features are those of a last pass, in the same batches. Batches are drawn once, so that each has images
    of all classes: the order of a split is often by class. The quantum layer gives exact values, by
    `qhybrid.statevector`. The run itself is not changed.

    Args:
        run: A complete run.
        spec: How.
        split: Whose images, all of them.
        seed: Of the batches.

    Raises:
        InputError: The CNN has no batch normalisation; the images are missing or have changed; there is no such split
            or it has one image.
        QHybridError: The adaptation diverged.
    """
    stored = run.features(split)
    model = run.load_model(DeviceChoice(name=REFERENCE_DEVICE))
    layers = [layer for layer in model.cnn.modules() if isinstance(layer, _BatchNorm)]
    if not layers:
        raise InputError(
            f"run {str(run.path)!r}: {run.spec.model.backbone} has no batch normalisation to adapt at test"
        )
    images = images_of(run, split)
    if len(images) < 2:
        raise InputError(f"the {split} split has one image: statistics of a batch need two")
    before = _entropy(model, torch.from_numpy(stored.features))
    trained = _only_normalisation(model, layers)
    batches = _batches(len(images), spec.batch_size, seed)
    optimizer = torch.optim.Adam(trained, lr=spec.learning_rate)
    for _ in range(spec.steps):
        for rows in batches:
            loss = mean_entropy(model(images.batch(rows)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    features = np.empty_like(stored.features)
    with torch.no_grad():
        for rows in batches:
            features[rows.numpy()] = model.backbone_features(images.batch(rows)).numpy()
    if not np.isfinite(features).all():
        raise QHybridError(f"the adaptation to the {split} split diverged: try a smaller learning rate or fewer steps")
    after = _entropy(model, torch.from_numpy(features))
    n_trained = sum(parameter.numel() for parameter in trained)
    return Adapted(Features(features, stored.labels, stored.ids), spec, len(layers), n_trained, (before, after))


def mean_entropy(logits: Tensor) -> Tensor:
    """Mean entropy of predictions, in nats: logits (B, C) -> a scalar."""
    logs = torch.log_softmax(logits, dim=1)
    return -(logs.exp() * logs).sum(dim=1).mean()


def images_of(run: Run, split: str) -> Split:
    """The images of a split as the run had them.

    Raises:
        InputError: They are missing or have changed.
    """
    dataset, _ = load_data(run.spec, Console(quiet=True))
    if dataset.fingerprint() != run.data["fingerprint"]:
        raise InputError(f"run {str(run.path)!r}: the images of {dataset.name!r} have changed since it was trained")
    return dataset.splits[split]


def _only_normalisation(model: HybridClassifier, layers: list[_BatchNorm]) -> list[nn.Parameter]:
    """Make all but the normalisation constant, and take its statistics from batches."""
    model.eval().requires_grad_(requires_grad=False)
    trained: list[nn.Parameter] = []
    for layer in layers:
        layer.train()
        layer.track_running_stats = False
        layer.running_mean = layer.running_var = None
        trained += list(layer.parameters())
    for parameter in trained:
        parameter.requires_grad_()
    return trained


def _batches(n_images: int, batch_size: int, seed: int) -> tuple[Tensor, ...]:
    """Equal parts in an order of their own: a last batch of few images would have statistics of few."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "test batches"))
    return torch.randperm(n_images, generator=generator).tensor_split(-(-n_images // batch_size))


@torch.no_grad()
def _entropy(model: HybridClassifier, features: Tensor) -> float:
    return float(mean_entropy(model.head(features)))
