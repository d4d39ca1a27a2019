"""Adaptation at test time: what is adapted, to what, and what stays as it was."""

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import Command, runner
from tiny_centres import across_centres, write_images
from tiny_training import quiet

from qhybrid.data.centres_spec import TestTimeSpec
from qhybrid.errors import InputError
from qhybrid.experiments.adapted_evaluation import evaluate_adapted
from qhybrid.experiments.evaluation import evaluate
from qhybrid.experiments.model import build_classifier, save_weights
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.runs import open_run
from qhybrid.experiments.tent import adapt_to_images, images_of, mean_entropy
from qhybrid.experiments.training import train
from qhybrid.storage import read_arrays, read_json


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("tent")
    images = write_images(folder / "images.npz", (12, 12, 30))
    return train(across_centres(images, {"held_out": "none"}), out=folder / "runs", console=quiet())


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    return runner(monkeypatch, capfd, tmp_path)


def test_the_entropy_is_that_of_the_predictions() -> None:
    logits = torch.randn((5, 3), generator=torch.Generator().manual_seed(0))
    p = torch.softmax(logits, dim=1).numpy()
    assert mean_entropy(logits).item() == pytest.approx(-(p * np.log(p)).sum(axis=1).mean(), rel=1e-5)


def test_without_steps_the_statistics_alone_are_those_of_the_images(run: Run) -> None:
    adapted = adapt_to_images(run, TestTimeSpec(steps=0))
    model = copy.deepcopy(run.load_model())
    model.cnn.train()
    with torch.no_grad():
        expected = model.backbone_features(images_of(run, "test").batch())  # 30 images are one batch
    np.testing.assert_allclose(adapted.features.features, expected.numpy(), atol=1e-5)
    assert not np.allclose(adapted.features.features, run.features("test").features, atol=1e-3)
    assert adapted.layers == 5
    normalisations = [layer for layer in model.cnn.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert adapted.parameters == sum(2 * layer.num_features for layer in normalisations)


def test_steps_lower_the_entropy_and_leave_the_run_as_it_was(run: Run) -> None:
    before = {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()}
    state = torch.random.get_rng_state()
    still = adapt_to_images(run, TestTimeSpec(steps=0))
    adapted = adapt_to_images(run, TestTimeSpec(steps=15, learning_rate=0.01))
    assert adapted.entropy[1] < still.entropy[1]
    assert {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()} == before
    assert torch.equal(state, torch.random.get_rng_state())
    again = adapt_to_images(run, TestTimeSpec(steps=15, learning_rate=0.01))
    np.testing.assert_array_equal(adapted.features.features, again.features.features)
    assert list(adapted.features.ids) == list(run.features("test").ids)


def test_batches_have_nearly_equal_sizes_and_the_order_of_the_split_is_kept(run: Run) -> None:
    adapted = adapt_to_images(run, TestTimeSpec(steps=0, batch_size=8))
    assert adapted.label == "tent0x0.001-batch8"
    features = adapted.features.features
    assert features.shape == (30, 4)
    assert np.isfinite(features).all()
    np.testing.assert_array_equal(adapted.features.labels, run.features("test").labels)


def test_the_evaluation_has_a_name_of_its_own_and_is_compared_with_the_run_as_it_is(run: Run) -> None:
    noisy = {"device": "qhybrid.density", "noise": "ibm_fez", "shots": 100}
    for options in ({}, noisy):
        plain = evaluate(run, console=quiet(), **options)
        found = evaluate_adapted(run, TestTimeSpec(steps=3, learning_rate=0.01), console=quiet(), **options)
        assert found.name != plain.name
        said = read_json(run.path / "results" / f"{found.name}.json")["adapted_at_test"]
        against = said["against_the_run_as_it_is"]["metrics"]["accuracy"]
        assert against["value"] == pytest.approx(plain.metrics["accuracy"])
        assert against["difference"] == pytest.approx(found.metrics["accuracy"] - plain.metrics["accuracy"])
        low, high = against["paired_bootstrap"]
        assert low <= against["difference"] <= high
        kept = read_arrays(run.path / "predictions" / f"{plain.name}.npz", ("probabilities",))
        np.testing.assert_array_equal(kept["probabilities"], plain.predictions.probabilities)
        assert (found.reference is None) == (not options)


def test_a_changed_image_is_one_line(run: Run, tmp_path: Path) -> None:
    source = Path(run.spec.data.source.partition(":")[2])
    copied = tmp_path / "images.npz"
    shutil.copy(source, copied)
    arrays = dict(np.load(source))
    arrays["test_images"][0] += 1
    try:
        np.savez(source, **arrays)
        with pytest.raises(InputError, match="have changed since it was trained"):
            adapt_to_images(run, TestTimeSpec())
        source.unlink()
        with pytest.raises(InputError, match="file does not exist"):
            adapt_to_images(run, TestTimeSpec())
    finally:
        shutil.copy(copied, source)


def test_the_command_says_what_was_adapted(run: Run, command: Command) -> None:
    answer = command("eval", str(run.path), "--adapt-at-test", "--adapt-steps", "2", "--adapt-learning-rate", "0.01")
    assert answer.returncode == 0, answer.stderr
    text = " ".join(answer.stdout.split())
    assert "adapted at test: the 5 batch normalisations of the CNN" in text
    assert "2 passes, learning rate 0.01" in text
    assert "against the run as it is: accuracy" in text
    assert (run.path / "results" / "test-tent2x0.01-qhybrid.statevector-analytic-seed0.json").is_file()
    for wrong, said in (
        (["--adapt-steps", "2"], "--adapt-steps is a setting of --adapt-at-test"),
        (["--adapt-at-test", "--adapt-steps", "-1"], "key 'steps' is -1"),
        (["--adapt-at-test", "--baseline", "logistic"], "takes no --baseline"),
    ):
        answer = command("eval", str(run.path), *wrong)
        assert answer.returncode == 2
        assert said in answer.stderr


def test_it_works_without_centres_and_without_a_circuit_and_needs_batch_normalisation(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images.npz")
    spec = across_centres(images, model__head="mlp", train__epochs=1).model_copy(update={"domains": None})
    plain = train(spec, out=tmp_path / "runs", console=quiet())
    found = evaluate_adapted(plain, TestTimeSpec(steps=1), console=quiet())
    assert found.name == "test-tent1x0.001-classical-seed0"
    assert found.adapted_at_test is not None
    vgg = plain.spec.model_copy(update={"model": plain.spec.model.model_copy(update={"backbone": "vgg16"})})
    model = build_classifier(vgg.model, n_classes=2, circuit="angle_4q", device=vgg.device)
    save_weights(model, plain.path / "model.safetensors")
    with pytest.raises(InputError, match="vgg16 has no batch normalisation to adapt at test"):
        adapt_to_images(Run(plain.path, vgg), TestTimeSpec())
    assert open_run(plain.path).state == "complete"
