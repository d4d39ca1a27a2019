"""SimCLR: views of medical images, its loss, and a batch that does not depend on what was drawn before."""

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from qhybrid.data.dataset import Split
from qhybrid.errors import InputError
from qhybrid.experiments import contrastive_views
from qhybrid.experiments.backbones import build_backbone, normalisation
from qhybrid.experiments.contrastive_module import ContrastiveModule, partners_found
from qhybrid.experiments.contrastive_views import ContrastiveImages, check_lightly, contrastive_loader, view_transform
from qhybrid.experiments.pretrain_spec import PretrainSpec
from qhybrid.experiments.spec import TrainSpec


def grey(n: int = 7, size: int = 28) -> Split:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 1, size, size)).astype(np.uint8)
    return Split(torch.from_numpy(pixels), torch.zeros(n, dtype=torch.int64), tuple(map(str, range(n))), 32)


def views(spec: PretrainSpec, transforms: list[Any], seed: int = 0) -> ContrastiveImages:
    return ContrastiveImages(grey(), view_transform(spec, transforms, 32), seed)


def test_views_of_grey_images_stay_grey_and_in_range() -> None:
    first, second = views(PretrainSpec(), ["quarter_turns", "flip"]).__getitems__([0, 3, 9])
    assert first.shape == second.shape == (3, 3, 32, 32)
    assert not torch.equal(first, second)
    for each in (first, second):
        assert torch.equal(each[:, 0], each[:, 1])
        assert torch.equal(each[:, 0], each[:, 2])
        assert 0 <= each.min() <= each.max() <= 1


def test_a_view_depends_on_seed_epoch_and_image_alone() -> None:
    images = views(PretrainSpec(), ["flip"])
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist()
    first = images.__getitems__([1, 2])
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    torch.rand(10)
    np.random.rand(10)
    again = images.__getitems__([2])
    assert torch.equal(first[0][1], again[0][0])
    assert torch.equal(first[1][1], again[1][0])
    assert not torch.equal(images.__getitems__([2 + len(images)])[0], again[0])
    assert not torch.equal(views(PretrainSpec(), ["flip"], seed=1).__getitems__([2])[0], again[0])


def symmetries(transforms: list[Any]) -> set[bytes]:
    """What becomes of a picture without symmetry where nothing else changes it."""
    still = PretrainSpec(crop=1, brightness=0, contrast=0, blur=0)
    pixels = np.arange(32 * 32, dtype=np.uint32).reshape(32, 32).astype(np.uint8)
    pixels[:4, :9] = 255
    view = view_transform(still, transforms, 32)
    # The shape of a crop of all of the area is random as well; those that keep the square count.
    return {
        found
        for seed in range(400)
        if (found := _seen(view, pixels, seed))
        in {np.rot90(p, k).tobytes() for p in (pixels, pixels.T) for k in range(4)}
    }


def _seen(view: contrastive_views.ViewFunction, pixels: np.ndarray[Any, Any], seed: int) -> bytes:
    torch.manual_seed(seed)
    np.random.seed(seed)
    seen = (view(Image.fromarray(pixels))[0] * 255).round().to(torch.uint8).numpy()
    return np.ascontiguousarray(seen).tobytes()


def test_views_are_mirrored_and_turned_only_where_the_experiment_allows_it() -> None:
    assert len(symmetries([])) == 1
    assert len(symmetries(["affine", "flip"])) == 2
    assert len(symmetries(["quarter_turns"])) == 8


def test_batches_are_full_and_go_on_in_the_middle() -> None:
    loader = contrastive_loader(views(PretrainSpec(), []), batch_size=3, workers=0)
    assert [len(first) for first, _ in loader] == [3, 3]
    assert [len(first) for first, _ in contrastive_loader(views(PretrainSpec(), []), batch_size=64, workers=0)] == [7]


def test_the_loss_is_that_of_the_paper() -> None:
    """Eq. 1 of SimCLR, written out: lightly's loss on our pairs, in our order."""
    pretraining = PretrainSpec(temperature=0.2, projection=(8, 4))
    module = module_of(pretraining)
    projected = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    unit = (projected / projected.norm(dim=1, keepdim=True)).double().numpy()
    total = 0.0
    for i in range(10):
        partner = (i + 5) % 10
        similar = [math.exp(unit[i] @ unit[k] / 0.2) for k in range(10)]
        total -= math.log(similar[partner] / (sum(similar) - similar[i]))
    assert float(module.loss(*projected.chunk(2))) == pytest.approx(total / 10, rel=1e-5)


def module_of(pretraining: PretrainSpec) -> ContrastiveModule:
    torch.manual_seed(0)
    cnn, width = build_backbone("cnn5", "none")
    return ContrastiveModule(cnn, width, normalisation("none"), pretraining, TrainSpec())


def test_projections_have_the_widths_that_are_asked_for() -> None:
    module = module_of(PretrainSpec(projection=(9, 5))).eval()
    assert module(torch.rand(3, 3, 32, 32)).shape == (3, 5)
    assert [tuple(each.weight.shape) for each in module.projection.modules() if isinstance(each, torch.nn.Linear)] == [
        (9, module.projection.layers[0].in_features),
        (5, 9),
    ]


def test_partners_are_found_by_the_cosine() -> None:
    projected = torch.tensor([[1.0, 0], [0, 1], [5, 0.1], [1, -0.2]])
    assert float(partners_found(projected)) == pytest.approx(0.5)  # the second pair is apart
    assert float(partners_found(torch.eye(3).repeat(2, 1))) == 1


@pytest.mark.slow
def test_lightly_reaches_for_no_network_and_is_imported_only_when_asked_for() -> None:
    code = """
import socket, sys
import qhybrid.experiments.pretraining
assert "lightly" not in sys.modules
def refused(*_): raise AssertionError("network")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refused
from qhybrid.experiments.pretrain_spec import PretrainSpec
from qhybrid.experiments.contrastive_views import view_transform
view_transform(PretrainSpec(), [], 32)
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
import os, threading
assert os.environ["LIGHTLY_DID_VERSION_CHECK"] == "True"
print("lightly" in sys.modules, threading.active_count())
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "1"], done.stderr


def test_without_lightly_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrastive_views, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"needs lightly, which is not installed: pip install 'qhybrid\[ssl\]'"):
        check_lightly()
