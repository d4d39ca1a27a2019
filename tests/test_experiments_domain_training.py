"""Training across centres: the reversed gradient, the second view, and a resume that ends the same."""

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr
from tiny_centres import across_centres, write_images
from tiny_training import quiet, same_end

from qhybrid.data.centres import CentreSplit, load_centres
from qhybrid.data.centres_spec import DomainsSpec
from qhybrid.data.transforms import training_transforms
from qhybrid.errors import Interrupted
from qhybrid.experiments.checkpoints import read_checkpoint
from qhybrid.experiments.domain_training import (
    DomainImages,
    DomainTrainingModule,
    divergence,
    reversal_factor,
    reverse_gradient,
    training_images,
)
from qhybrid.experiments.runs import open_run
from qhybrid.experiments.spec import override
from qhybrid.experiments.training import resume, train


def test_the_reversed_gradient_is_minus_the_factor_times_that_of_finite_differences() -> None:
    x = torch.randn((4, 3), dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)

    def function(values: torch.Tensor) -> torch.Tensor:
        return (values.sin() * values.roll(1, dims=1)).sum()

    assert torch.equal(reverse_gradient(x, 0.7), x)
    (found,) = torch.autograd.grad(function(reverse_gradient(x, 0.7)), x)
    step = 1e-6
    expected = torch.zeros_like(x)
    for place in np.ndindex(4, 3):
        moved = [x.detach().clone() for _ in range(2)]
        moved[0][place] += step
        moved[1][place] -= step
        expected[place] = (function(moved[0]) - function(moved[1])) / (2 * step)
    torch.testing.assert_close(found, -0.7 * expected, rtol=1e-6, atol=1e-8)


def test_the_factor_rises_as_in_the_paper_or_stays() -> None:
    spec = DomainsSpec.model_validate({"centres": [{"name": name} for name in "ABC"], "adversarial": 2.0})
    factors = [reversal_factor(spec, progress) for progress in (0.0, 0.25, 1.0)]
    np.testing.assert_allclose(factors, [0, 2 * np.tanh(1.25), 2 * np.tanh(5)])
    constant = spec.model_copy(update={"adversarial_schedule": "constant"})
    assert reversal_factor(constant, 0.0) == 2.0


@pytest.mark.parametrize("n_classes", [2, 5])
def test_divergences_are_those_of_scipy(n_classes: int) -> None:
    logits, others = torch.randn((2, 6, n_classes), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p, q = (torch.softmax(each, dim=1).numpy() for each in (logits, others))
    found = divergence(logits, others, kind="jensen-shannon").item()
    assert found == pytest.approx((jensenshannon(p, q, axis=1) ** 2).mean())
    symmetric = (rel_entr(p, q) + rel_entr(q, p)).sum(axis=1).mean() / 2
    assert divergence(logits, others, kind="symmetric-kl").item() == pytest.approx(symmetric)
    assert divergence(logits, logits, kind="jensen-shannon").item() == pytest.approx(0)


def test_the_second_view_is_the_same_image_in_another_training_centre(tmp_path: Path) -> None:
    spec = across_centres(write_images(tmp_path / "images.npz"))
    assert spec.domains is not None
    split = load_centres(spec.data, spec.domains).splits["train"]
    assert isinstance(split, CentreSplit)
    images = DomainImages([split], training_transforms(["flip"]), 0, spec.domains)
    keys = [3, 0, 5, 7]
    seen, labels, centres = images.__getitems__(keys)
    assert seen.shape == (8, 3, 32, 32)
    assert labels.tolist() == split.labels[keys].tolist()
    assert set(centres.tolist()) == {0, 1}
    assert (centres[:4] != centres[4:]).all()
    for row, key in enumerate(keys):
        own, other = (torch.tensor([[0, 2][centre]]) for centre in (centres[row], centres[row + 4]))
        views = [split.seen_in(torch.tensor([key]), centre)[0] for centre in (own, other)]
        flipped = not torch.allclose(seen[row], views[0])
        for found, view in zip((seen[row], seen[row + 4]), views, strict=True):
            torch.testing.assert_close(found, view.flip(-1) if flipped else view)
    again = images.__getitems__([7, 3])
    torch.testing.assert_close(again[0][1], seen[0])
    torch.testing.assert_close(again[0][3], seen[4])


def test_without_weights_the_training_is_the_usual_one(tmp_path: Path) -> None:
    spec = across_centres(write_images(tmp_path / "images.npz"), {"adversarial": 0, "consistency": 0})
    assert spec.domains is not None
    split = load_centres(spec.data, spec.domains).splits["train"]
    assert type(training_images(spec, [split], None)).__name__ == "TrainingImages"
    run = train(spec, out=tmp_path / "runs", console=quiet())
    assert set(run.training_log()) == {
        "epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "seconds",
    }  # fmt: skip
    assert run.data["centres"]["test"].keys() == {"B"}
    assert all(name.startswith("B:test/") for name in run.features("test").ids)


@pytest.mark.parametrize("adversarial", [0.5, 0.0])
def test_an_interrupted_training_resumed_equals_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adversarial: float
) -> None:
    images = write_images(tmp_path / "images.npz")
    spec = across_centres(images, {"adversarial": adversarial}, train__epochs=3, data__transforms=["flip"])
    whole = train(spec, out=tmp_path / "whole", console=quiet())
    step = DomainTrainingModule.training_step

    def stop_in_second_epoch(self: DomainTrainingModule, batch: Any, index: int) -> torch.Tensor:
        if self.current_epoch == 1 and index == 1:
            raise KeyboardInterrupt
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(DomainTrainingModule, "training_step", stop_in_second_epoch)
        with pytest.raises(Interrupted):
            train(spec, out=tmp_path / "cut", console=quiet())
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning ignores it after an interrupt
    resumed = resume(open_run(root=tmp_path / "cut", incomplete=True).path, console=quiet())
    same_end(resumed, whole)
    log = resumed.training_log()
    assert ("domain_accuracy" in log) == (adversarial > 0)
    assert (log["consistency"] >= 0).all()
    with safe_open(resumed.path / "model.safetensors", framework="pt") as file:
        assert not [name for name in file.keys() if "domain" in name]  # noqa: SIM118
    kept = [name for name in read_checkpoint(resumed.best_checkpoint)["state_dict"] if name.startswith("domain")]
    assert bool(kept) == (adversarial > 0)


def test_the_adversary_changes_the_cnn(tmp_path: Path) -> None:
    spec = across_centres(write_images(tmp_path / "images.npz"), {"consistency": 0}, train__epochs=1)
    weights = {
        strength: (
            train(
                override(spec, {"domains.adversarial": strength, "domains.adversarial_schedule": "constant"}),
                out=tmp_path / str(strength),
                console=quiet(),
            ).path
            / "model.safetensors"
        ).read_bytes()
        for strength in (0.0, 0.5, 5.0)
    }
    assert len(set(weights.values())) == 3
