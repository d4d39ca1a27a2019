"""A generator's parts: branches with circuits and their twins, the noise schedule, losses, and what is drawn once."""

import numpy as np
import pytest
import torch
from tiny_generator import TINY

from qhybrid.circuits.spec import load_circuit
from qhybrid.errors import InputError
from qhybrid.experiments.generator_spec import GeneratorSpec
from qhybrid.experiments.heads import count_parameters
from qhybrid.experiments.latent_blocks import BranchRequest, branch_parameters
from qhybrid.experiments.latent_diffusion import (
    LatentDiffusion,
    build_generator,
    generator_parameters,
    noise_schedule,
    quantum_layers,
)
from qhybrid.experiments.latent_vae import divergence, reconstruction_loss
from qhybrid.experiments.spec import DeviceChoice, ExperimentSpec, experiment_toml, override

EXACT = DeviceChoice(name="qhybrid.statevector")
SIZES = {"channels": 1, "image_size": 32, "n_classes": 2, "circuit": "angle_4q", "device": EXACT}


def build(spec: GeneratorSpec, **settings: object) -> LatentDiffusion:
    return build_generator(spec, **{**SIZES, **settings})  # type: ignore[arg-type]


def test_quantum_is_said_by_a_boolean_or_by_places() -> None:
    assert GeneratorSpec(quantum=True).quantum == ["bottleneck", "denoiser"]  # type: ignore[arg-type]
    assert GeneratorSpec(quantum=False).quantum == []  # type: ignore[arg-type]
    assert GeneratorSpec(quantum=["denoiser", "bottleneck"]).quantum == ["bottleneck", "denoiser"]
    with pytest.raises(InputError, match="denoiser"):
        override(ExperimentSpec(), {"generator.quantum": ["denoisr"]})


def test_old_experiments_keep_their_text() -> None:
    text = experiment_toml(ExperimentSpec())
    assert "generator" not in text
    assert "quantum =" not in text


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [("sampling_steps", 2000, "must not exceed timesteps"), ("quantum_blocks", 9, "must not exceed the 4 residual")],
)
def test_settings_that_contradict_each_other_are_refused(key: str, value: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        override(ExperimentSpec(), {f"generator.{key}": value})


@pytest.mark.parametrize("circuit", ["angle_4q", "sda_qec_4q"])
@pytest.mark.parametrize("spec", [GeneratorSpec(), GeneratorSpec(denoiser_width=64, quantum_blocks=4)])
def test_quantum_and_classical_generators_are_equally_large(circuit: str, spec: GeneratorSpec) -> None:
    settings = SIZES | {"circuit": circuit}
    counts = generator_parameters(build(spec, circuit=circuit), spec, **settings)
    assert counts["total"] == counts["quantum_twin"]
    assert counts["classical_twin"] == pytest.approx(counts["quantum_twin"], rel=0.01)
    assert counts["circuits"] == (1 + spec.quantum_blocks) * load_circuit(circuit).n_weights
    branch = BranchRequest(load_circuit(circuit), EXACT, 0).quantum(96, 0)
    assert branch_parameters(96, load_circuit(circuit)) == count_parameters(branch)


def test_variants_differ_in_nothing_but_their_branches() -> None:
    spec = GeneratorSpec.model_validate(TINY)
    quantum = build(spec).state_dict()
    classical = build(spec.model_copy(update={"quantum": []})).state_dict()
    shared = [name for name in quantum if "branch" not in name and "bottleneck" not in name]
    # The first layers are drawn before any branch is.
    assert torch.equal(quantum["autoencoder.encoder.1.weight"], classical["autoencoder.encoder.1.weight"])
    assert all(quantum[name].shape == classical[name].shape for name in shared)


def test_a_batch_is_one_call_of_each_circuit_and_its_weights_learn() -> None:
    model = build(GeneratorSpec.model_validate(TINY))
    bottleneck, block = quantum_layers(model)
    before = [layer.device.tracker.batches for layer in (bottleneck, block)]
    mean, _ = model.autoencoder.encode(torch.rand(6, 1, 32, 32))
    predicted = model.denoiser(mean, torch.arange(6), torch.arange(6) % 2)
    assert mean.shape == predicted.shape == (6, 2, 4, 4)
    assert [layer.device.tracker.batches for layer in (bottleneck, block)] == [count + 1 for count in before]
    predicted.square().sum().backward()
    for layer in (bottleneck, block):
        assert layer.weights.grad is not None
        assert layer.weights.grad.abs().sum() > 0


def test_first_weights_follow_from_the_seed_and_disturb_nothing() -> None:
    spec = GeneratorSpec.model_validate(TINY)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    models = [build(spec, seed=seed).state_dict() for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, models[1][name]) for name, value in models[0].items())
    assert any(not torch.equal(value, models[2][name]) for name, value in models[0].items())


@pytest.mark.parametrize("downsamplings", [1, 2, 3])
@pytest.mark.parametrize(("channels", "size"), [(1, 32), (3, 64)])
def test_images_of_either_size_and_kind_come_back_in_their_shape(downsamplings: int, channels: int, size: int) -> None:
    spec = GeneratorSpec.model_validate(TINY | {"downsamplings": downsamplings})
    model = build(spec, channels=channels, image_size=size)
    images = torch.rand(2, channels, size, size)
    mean, _ = model.autoencoder.encode(images)
    assert mean.shape == (2, 2, size // 2**downsamplings, size // 2**downsamplings)
    assert model.images(mean).shape == images.shape


def test_an_image_size_that_does_not_halve_is_refused() -> None:
    with pytest.raises(InputError, match="multiples of 16 pixels"):
        build(GeneratorSpec.model_validate(TINY), image_size=40)


def test_the_noise_schedule_is_the_cosine_one() -> None:
    spec = GeneratorSpec(timesteps=100)
    schedule = noise_schedule(spec)
    times = np.arange(101) / 100
    bar = np.cos((times + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.minimum(1 - bar[1:] / bar[:-1], 0.999)
    kept = np.cumprod(1 - betas)
    clean, noise = torch.randn(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    steps = torch.tensor([0, 40, 99])
    root, rest = (torch.tensor(values[steps]).float()[:, None, None, None] for values in (kept**0.5, (1 - kept) ** 0.5))
    torch.testing.assert_close(schedule.add_noise(clean, noise, steps), root * clean + rest * noise, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        schedule.get_velocity(clean, noise, steps), root * noise - rest * clean, atol=1e-4, rtol=0
    )
    assert len(noise_schedule(spec, 7).timesteps) == 7
    with pytest.raises(InputError, match="from 1 to 100"):
        noise_schedule(spec, 101)


def test_losses_are_those_of_their_formulas() -> None:
    generator = torch.Generator().manual_seed(0)
    images, decoded = torch.rand(2, 3, 1, 5, 5, generator=generator).double()
    error = (decoded - images).numpy()
    edges = np.abs(error[:, :, 1:] - error[:, :, :-1]).mean() + np.abs(error[..., 1:] - error[..., :-1]).mean()
    assert reconstruction_loss(images, decoded, edge_weight=0.5).item() == pytest.approx(
        np.abs(error).mean() + edges / 2
    )
    mean, log_variance = torch.randn(2, 4, generator=generator).double()
    posterior = torch.distributions.Normal(mean, torch.exp(log_variance / 2))
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(divergence(mean, log_variance), expected)
