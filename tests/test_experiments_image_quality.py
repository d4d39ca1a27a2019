"""FID, KID and their networks: equal to torchmetrics, right where the truth is known, never downloaded."""

import itertools
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3
from torchmetrics.image.kid import KernelInceptionDistance

from qhybrid.errors import InputError
from qhybrid.experiments.image_quality import (
    Floats,
    choose_features,
    feature_space,
    frechet_distance,
    inception_space,
    inception_weights,
    kernel_distance,
    kernel_distances_of_halves,
)

WEIGHTS_NAME = "weights-inception-2015-12-05-6726825d.pth"


class Plain(nn.Module):
    """Features that are given as they are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features


def two_sets(n: int, m: int, width: int, seed: int = 0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(width, width)) / np.sqrt(width)
    return rng.normal(size=(n, width)) @ mixed, 0.7 * rng.normal(size=(m, width)) + 0.3


def fed(metric: Any, real: Floats, other: Floats) -> Any:
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(other), real=False)
    return metric.compute()


@pytest.mark.parametrize(("n", "m", "width"), [(200, 150, 6), (20, 25, 60), (10, 90, 30)])
def test_the_frechet_distance_is_that_of_torchmetrics(n: int, m: int, width: int) -> None:
    real, other = two_sets(n, m, width)
    theirs = float(fed(FrechetInceptionDistance(feature=Plain(width)), real, other))
    assert frechet_distance(real, other) == pytest.approx(theirs, rel=1e-5)
    assert frechet_distance(other, real) == pytest.approx(theirs, rel=1e-5)


@given(st.floats(0.1, 3), st.floats(-2, 2), st.sampled_from([(30, 4), (5, 12)]), st.integers(0, 99))
def test_the_frechet_distance_of_a_scaled_and_shifted_set_is_known(
    scale: float, shift: float, shape: tuple[int, int], seed: int
) -> None:
    real = np.random.default_rng(seed).normal(size=shape)
    other = real.mean(0) + scale * (real - real.mean(0)) + shift
    expected = shape[1] * shift**2 + (1 - scale) ** 2 * real.var(axis=0, ddof=1).sum()
    assert frechet_distance(real, other) == pytest.approx(expected, abs=1e-9, rel=1e-9)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance`")
def test_the_kernel_distance_is_that_of_torchmetrics() -> None:
    real, other = two_sets(40, 40, 7)
    mean, _ = fed(KernelInceptionDistance(feature=Plain(7), subsets=1, subset_size=40), real, other)
    assert kernel_distance(real, other) == pytest.approx(float(mean), rel=1e-6)


def test_the_kernel_distance_is_unbiased_and_the_frechet_distance_is_not() -> None:
    rng = np.random.default_rng(1)
    frechet, kernel = {}, {}
    for n in (8, 64):
        pairs = [(rng.normal(size=(n, 6)), rng.normal(size=(n, 6))) for _ in range(300)]
        frechet[n] = np.mean([frechet_distance(*pair) for pair in pairs])
        found = np.array([kernel_distance(*pair) for pair in pairs])
        kernel[n] = found.mean() / (found.std() / np.sqrt(len(found)))
    assert frechet[8] > 5 * frechet[64] > 0
    assert max(map(abs, kernel.values())) < 3


def test_halves_are_halves_of_both_sets() -> None:
    real, other = two_sets(4, 5, 3)
    possible = [
        kernel_distance(real[list(these)], other[list(those)])
        for these in itertools.combinations(range(4), 2)
        for those in itertools.combinations(range(5), 2)
    ]
    found = kernel_distances_of_halves(real, other, n=200, seed=0)
    assert all(np.min(np.abs(np.array(possible) - each)) < 1e-12 for each in found)
    assert len(np.unique(found.round(12))) > 30
    assert np.array_equal(found, kernel_distances_of_halves(real, other, n=200, seed=0))


def test_the_spread_of_halves_is_a_standard_error() -> None:
    rng = np.random.default_rng(2)
    sets = [(rng.normal(size=(40, 5)), rng.normal(size=(40, 5)) + 0.4) for _ in range(150)]
    truly = np.std([kernel_distance(*each) for each in sets])
    claimed = np.mean([kernel_distances_of_halves(*each, n=60, seed=0).std() for each in sets])
    assert 0.9 < claimed / truly < 1.35


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file such as torch-fidelity's, of first weights."""
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    path = tmp_path_factory.mktemp("inception") / WEIGHTS_NAME

    class FirstWeights(fidelity.FeatureExtractorInceptionV3):  # type: ignore[misc, name-defined]
        def load_state_dict(self, state_dict: Any, *_: Any, **__: Any) -> None:
            assert state_dict == {}

    nothing = path.with_name("nothing.pth")
    torch.save({}, nothing)
    torch.manual_seed(0)
    torch.save(FirstWeights("inception-v3-compat", ["2048"], str(nothing)).state_dict(), path)
    yield path
    path.unlink()  # 90 MB


def test_inception_is_that_of_torchmetrics(weights: Path) -> None:
    space = feature_space(None, choose_features(weights=weights), weights)
    assert (space.width, space.run, space.name) == (2048, None, "Inception v3 (pool3)")
    images = torch.randint(0, 256, (3, 1, 40, 40), dtype=torch.uint8)
    theirs = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(weights))(images.expand(-1, 3, -1, -1))
    found = space.features(images.float() / 255)
    assert found.shape == (3, 2048)
    assert np.array_equal(found, theirs.double().numpy())


def test_inception_is_used_where_torch_keeps_its_weights(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert inception_weights() is None
    assert choose_features() == "backbone"
    with pytest.raises(InputError, match=r"no weights of Inception at hand: give .* with --inception-weights"):
        inception_space()
    with pytest.raises(InputError, match="features of a backbone need a run"):
        feature_space(None, "backbone")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / WEIGHTS_NAME).symlink_to(weights)
    assert choose_features() == "inception"
    assert choose_features("backbone") == "backbone"
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    assert choose_features() == "backbone"
    with pytest.raises(InputError, match=r"pip install 'qhybrid\[inception\]'"):
        inception_space(weights)


class _Hostile:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('ran code')",))


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("torch_fidelity")
    other, broken, hostile = (tmp_path / name for name in ("other.pth", "broken.pth", "hostile.pth"))
    torch.save({"conv.weight": torch.zeros(3)}, other)
    torch.save({"conv.weight": torch.full((3,), torch.nan)}, broken)
    hostile.write_bytes(pickle.dumps(_Hostile()))
    for path, message in [
        (other, "not the weights of torch-fidelity's Inception v3"),
        (broken, "holds values that are not finite"),
        (hostile, "not readable as weights without running code"),
        (tmp_path / "none.pth", "--inception-weights: file .* does not exist"),
    ]:
        with pytest.raises(InputError, match=message) as error:
            inception_space(path)
        assert "\n" not in str(error.value)


def test_unknown_features_are_refused() -> None:
    with pytest.raises(InputError, match="unknown features 'inceptoin'; did you mean 'inception'"):
        choose_features("inceptoin")
