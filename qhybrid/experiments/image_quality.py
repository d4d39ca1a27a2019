"""How far two sets of images are apart in the features of a network: FID and KID.

Every distance takes two arrays of features, (N, d) of real images and (M, d) of others, so that one function each is
all that a further distance needs.
"""

import importlib.util
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qhybrid.errors import InputError, did_you_mean
from qhybrid.experiments.backbones import read_weights
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.spec import DeviceChoice

Floats = NDArray[np.float64]
SPACES = ("inception", "backbone")
INCEPTION_WIDTH = 2048
BATCH = 64


@dataclass(frozen=True)
class FeatureSpace:
    """A network whose features stand for images; a distance means nothing without its name."""

    name: str
    width: int
    """Number of features, d."""
    network: nn.Module
    """(B, 3, H, W) float in [0, 1] -> (B, d)."""
    run: Run | None = None
    """The run that trained it; None: it has never seen images of the data set."""
    classify: Callable[[Floats], NDArray[np.int64]] | None = None
    """Features (N, d) -> labels (N,) by the classifier that the network is part of; None: it is part of none."""

    @torch.inference_mode()
    def features(self, images: Tensor) -> Floats:
        """Images (N, C, H, W) in [0, 1], grey or RGB -> features (N, d).

        Raises:
            InputError: They are not finite: the network is broken.
        """
        parts = [self.network(part.expand(-1, 3, -1, -1)).double().numpy() for part in images.split(BATCH)]
        features = np.concatenate(parts)
        if not np.isfinite(features).all():
            raise InputError(f"features of {self.name} are not finite")
        return features


class _Pooled(nn.Module):
    def __init__(self, run: Run) -> None:
        super().__init__()
        # Its head is not used, and must not ask for a machine.
        self.model = run.load_model(DeviceChoice(name="qhybrid.statevector"))

    def forward(self, images: Tensor) -> Tensor:
        return self.model.pooled_features(images)

    @torch.inference_mode()
    def classify(self, features: Floats) -> NDArray[np.int64]:
        """Pooled features (N, d) -> labels (N,)."""
        labels: NDArray[np.int64] = (
            self.model.head(self.model.neck[2:](torch.from_numpy(features).float())).argmax(1).numpy()
        )
        return labels


class _Bytes(nn.Module):
    """Inception takes images of 8 bits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network((255 * images).round().to(torch.uint8))
        return features


def choose_features(given: str | None = None, weights: Path | None = None) -> str:
    """Inception where its weights are at hand, else the backbone of a run.

    Args:
        given: `inception` or `backbone`; None: the rule above.
        weights: A file of Inception's weights; None: where torch keeps what was downloaded earlier.

    Raises:
        InputError: There are no such features.
    """
    if given not in (None, *SPACES):
        raise InputError(f"unknown features {given!r}; {did_you_mean(str(given), SPACES)}")
    return given or ("inception" if weights or inception_weights() else "backbone")


def feature_space(run: Run | None, which: str, weights: Path | None = None) -> FeatureSpace:
    """Load the network that `choose_features` has chosen.

    Args:
        run: A complete run; None: only Inception will do.
        which: `inception` or `backbone`.
        weights: Of Inception, as there. Nothing is downloaded.

    Raises:
        InputError: What is needed is missing or damaged.
    """
    if which == "inception":
        return inception_space(weights)
    if run is None:
        raise InputError("features of a backbone need a run")
    return backbone_space(run)


def backbone_space(run: Run) -> FeatureSpace:
    """The last feature map of a run's CNN, averaged over the image, as Inception's is for the FID.

    Raises:
        InputError: The run is damaged.
    """
    network = _Pooled(run)
    linear = network.model.neck[2]
    assert isinstance(linear, nn.Linear)
    return FeatureSpace(f"{run.spec.model.backbone} of {run.path}", linear.in_features, network, run, network.classify)


def inception_weights() -> Path | None:
    """The file of Inception's weights where torch keeps what was downloaded; None: it or torch-fidelity is missing."""
    if importlib.util.find_spec("torch_fidelity") is None:
        return None
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    file = Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rpartition("/")[2]
    return file if file.is_file() else None


def inception_space(weights: Path | None = None) -> FeatureSpace:
    """The Inception v3 that the FID is named after, as torchmetrics runs it: pool3, 2048 features.

    Args:
        weights: torch-fidelity's file; None: where torch keeps what was downloaded. Nothing is downloaded.

    Raises:
        InputError: torch-fidelity is not installed; the file is missing, damaged or of another network.
    """
    if importlib.util.find_spec("torch_fidelity") is None:
        raise InputError("Inception needs torch-fidelity: pip install 'qhybrid[inception]'; or use a run's backbone")
    from torchmetrics.image.fid import FrechetInceptionDistance

    path = weights or inception_weights()
    if path is None:
        raise InputError(
            "there are no weights of Inception at hand: give torch-fidelity's file weights-inception-2015-12-05-*.pth "
            "with --inception-weights, or use a run's backbone"
        )
    state = read_weights(path.expanduser(), "--inception-weights")
    if not all(torch.isfinite(value).all() for value in state.values()):
        raise InputError(f"{path}: holds values that are not finite")
    # torch-fidelity unpickles whatever it is given: it gets what was read without running code.
    clean: Any = io.BytesIO()
    torch.save(state, clean)
    clean.seek(0)
    try:
        metric = FrechetInceptionDistance(feature=INCEPTION_WIDTH, feature_extractor_weights_path=clean)
    except RuntimeError as error:  # of load_state_dict
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: not the weights of torch-fidelity's Inception v3 ({reason})") from None
    return FeatureSpace("Inception v3 (pool3)", INCEPTION_WIDTH, _Bytes(metric.inception))


def frechet_distance(real: Floats, other: Floats) -> float:
    """The FID's distance between Gaussians fitted to two sets (M. Heusel et al., NeurIPS 2017, Eq. 6).

    It is |m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)), what torchmetrics' FrechetInceptionDistance computes. With
    centred features A and B the root's trace is the sum of the singular values of A B^T, divided by
    ((N - 1)(M - 1))^(1/2): no d x d matrix, and no eigenvalues of a singular one.

    It is biased upwards, more with fewer images: only values of equal numbers of images can be compared. With fewer
    images than features the fitted Gaussians are flat; the distance is defined all the same.

    Args:
        real: (N, d), N at least 2.
        other: (M, d), M at least 2.
    """
    shift = real.mean(0) - other.mean(0)
    spread = 0.0
    parts: list[Floats] = []
    for each in (real, other):
        centred = (each - each.mean(0)) / np.sqrt(len(each) - 1)
        spread += float(np.square(centred).sum())
        # The triangular factor has the same singular values, and no more rows than there are features.
        parts.append(np.asarray(np.linalg.qr(centred, mode="r")) if len(each) > each.shape[1] else centred)
    return float(shift @ shift) + spread - 2 * float(np.linalg.norm(parts[0] @ parts[1].T, "nuc"))


def kernel_distance(real: Floats, other: Floats) -> float:
    """KID: the unbiased squared MMD with the kernel (x.y / d + 1)^3 (M. Binkowski et al., ICLR 2018, Eq. 4).

    Args:
        real: (N, d), N at least 2.
        other: (M, d), M at least 2.

    Returns:
        Its mean does not depend on the number of images; it may be below zero.
    """
    kernels = _kernels(real, other)
    return float(_mmd(kernels, np.ones((1, len(real))), np.ones((1, len(other))))[0])


def kernel_distances_of_halves(real: Floats, other: Floats, *, n: int, seed: int) -> Floats:
    """KID of random halves of both sets, drawn without replacement, as torchmetrics' `subsets` are.

    A mean over half of a set scatters about the whole set's as the whole set's about the truth, so the standard
    deviation of these is a standard error of `kernel_distance` (slightly too large, for a squared distance).

    Args:
        real: (N, d), N at least 4.
        other: (M, d), M at least 4.
        n: Number of halves.
        seed: Equal seeds and sizes give equal halves, so that two kinds of images can be compared in pairs.

    Returns:
        (n,)
    """
    rng = np.random.default_rng(seed)
    halves = [rng.permuted(np.tile(np.arange(m) < m // 2, (n, 1)), axis=1) for m in (len(real), len(other))]
    return _mmd(_kernels(real, other), *[half.astype(np.float64) for half in halves])


def _kernels(real: Floats, other: Floats) -> tuple[Floats, Floats, Floats]:
    def kernel(x: Floats, y: Floats) -> Floats:
        return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)

    return kernel(real, real), kernel(real, other), kernel(other, other)


def _mmd(kernels: tuple[Floats, Floats, Floats], real: Floats, other: Floats) -> Floats:
    """For each row of the weights, which are 0 or 1, (n, N) and (n, M)."""
    within_real, between, within_other = kernels
    found = -2 * ((real @ between) * other).sum(1) / (real.sum(1) * other.sum(1))
    for kernel, chosen in ((within_real, real), (within_other, other)):
        count = chosen.sum(1)
        found += (((chosen @ kernel) * chosen).sum(1) - chosen @ np.diag(kernel)) / (count * (count - 1))
    return np.asarray(found)
