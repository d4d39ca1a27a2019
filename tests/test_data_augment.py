"""Augmentors: the paper's formulas, counts, seeds, and only the training minority."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qhybrid.data.augment import (
    augment,
    compose,
    diffuse,
    noise_schedule,
    synthetic_count,
    transform_geometrically,
    vary,
)
from qhybrid.data.dataset import Split
from qhybrid.data.spec import AugmentSpec


def make_split(counts=(28, 10), channels=1, size=24, image_size=32):
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (len(labels), channels, size, size), generator=generator, dtype=torch.uint8)
    return Split(images, labels, tuple(f"train/{index}" for index in range(len(labels))), image_size)


def steps_of(synthetic):
    return [int(id_.rpartition("t=")[2]) for id_ in synthetic.ids]


def test_noise_of_the_papers_schedule():
    sigma = (1 - noise_schedule(AugmentSpec())).sqrt()
    expected = torch.tensor([0, 0.010, 0.072, 0.123, 0.173, 0.222], dtype=torch.float64)
    torch.testing.assert_close(sigma, expected, atol=6e-4, rtol=0)


@given(
    steps=st.integers(1, 50),
    betas=st.tuples(st.floats(1e-5, 0.5), st.floats(1e-5, 0.5)).map(sorted),
)
def test_schedule_is_the_product_of_a_linear_one(steps, betas):
    start, end = betas
    alpha_bar = noise_schedule(AugmentSpec(steps=steps, beta_start=start, beta_end=end))
    assert alpha_bar.shape == (steps + 1,)
    assert alpha_bar[0] == 1
    product = 1.0
    for step in range(1, steps + 1):
        product *= 1 - (start + (step - 1) / max(1, steps - 1) * (end - start))
        assert alpha_bar[step].item() == pytest.approx(product, rel=1e-9)


@given(n_majority=st.integers(0, 5000), n_minority=st.integers(0, 5000), percent=st.integers(0, 100))
def test_count_is_what_is_missing_to_the_ratio(n_majority, n_minority, percent):
    expected = max(0, -(-percent * n_majority // 100) - n_minority)
    assert synthetic_count(n_majority, n_minority, percent / 100) == expected


def test_count_of_the_paper():
    assert synthetic_count(280, 102, 0.7) == 94


def test_diffusion_adds_the_noise_of_each_step():
    spec = AugmentSpec(include_last_step=True)
    images = torch.full((6, 1, 64, 64), 0.5)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    noisy = diffuse(images, torch.arange(6), noise, spec)
    assert torch.equal(noisy[0], images[0])
    alpha_bar = noise_schedule(spec)
    for step in range(1, 6):
        signal, sigma = math.sqrt(alpha_bar[step]), math.sqrt(1 - alpha_bar[step])
        assert noisy[step].mean().item() == pytest.approx(0.5 * signal, abs=4 * sigma / 64)
        assert noisy[step].std().item() == pytest.approx(sigma, rel=0.05)


def test_composition_scales_or_multiplies_the_blurred_image():
    images = torch.rand((3, 1, 16, 16), generator=torch.Generator().manual_seed(0))
    gamma = torch.tensor([0.9, 1.0, 1.1])
    factor = gamma[:, None, None, None]
    scaled = compose(images, gamma, AugmentSpec(blur_sigma=0))
    torch.testing.assert_close(scaled, (factor * images).clamp(0, 1))
    product = compose(images, gamma, AugmentSpec(blur_sigma=0, composition="product"))
    torch.testing.assert_close(product, (factor * images**2).clamp(0, 1))


@pytest.mark.parametrize("sigma", [0.5, 1.5, 20])
def test_blur_is_the_gaussian_of_sigma(sigma):
    size = 33
    impulse = torch.zeros((1, 1, size, size))
    impulse[0, 0, 16, 16] = 1
    blurred = compose(impulse, torch.ones(1), AugmentSpec(blur_sigma=sigma))[0, 0]
    weights = torch.exp(-((torch.arange(size) - 16.0) ** 2) / (2 * sigma**2))
    expected = torch.outer(weights, weights) / weights.sum() ** 2
    assert blurred.sum().item() == pytest.approx(1, rel=1e-3 if sigma < 10 else 0.2)
    if sigma < 10:
        torch.testing.assert_close(blurred, expected, atol=1e-3, rtol=0)


def test_synthetic_samples_fill_the_minority_of_the_training_split():
    split = make_split((280, 102))
    synthetic = augment(split, AugmentSpec(), seed=0)
    assert synthetic.images.shape == (94, 1, 32, 32)
    assert synthetic.images.dtype == torch.float32
    assert 0 <= synthetic.images.min() < synthetic.images.max() <= 1
    assert synthetic.labels.tolist() == [1] * 94
    assert synthetic.image_size == 32
    sources = {id_.split("source=")[1].split(":")[0] for id_ in synthetic.ids}
    minority = {id_ for id_, label in zip(split.ids, split.labels, strict=True) if label == 1}
    assert sources <= minority
    assert len(sources) > 30
    assert set(steps_of(synthetic)) == {0, 1, 2, 3, 4}
    assert synthetic.ids[7].startswith("synthetic/007:source=train/")
    assert len(set(synthetic.ids)) == 94


def test_last_step_is_drawn_when_asked_for():
    synthetic = augment(make_split((280, 102)), AugmentSpec(include_last_step=True), seed=0)
    assert set(steps_of(synthetic)) == {1, 2, 3, 4, 5}


def test_step_zero_is_a_clean_copy_but_for_blur_and_brightness():
    split = make_split()
    synthetic = augment(split, AugmentSpec(blur_sigma=0, brightness=(1, 1), rho=1), seed=3)
    originals = dict(zip(split.ids, split.batch()[:, :1], strict=True))
    clean = [i for i, step in enumerate(steps_of(synthetic)) if step == 0]
    assert clean
    for index in clean:
        source = synthetic.ids[index].split("source=")[1].split(":")[0]
        torch.testing.assert_close(synthetic.images[index], originals[source])


def test_every_small_class_is_filled():
    synthetic = augment(make_split((20, 3, 14, 5)), AugmentSpec(), seed=0)
    assert synthetic.class_counts() == (0, 11, 0, 9)


def test_above_one_every_class_gets_samples():
    synthetic = augment(make_split((20, 20, 15)), AugmentSpec(rho=1.5), seed=0)
    assert synthetic.class_counts() == (10, 10, 15)


@pytest.mark.parametrize(("counts", "values"), [((28, 10), {"kind": "none"}), ((10, 10), {}), ((28, 10), {"rho": 0.1})])
def test_nothing_to_make_is_none(counts, values):
    assert augment(make_split(counts), AugmentSpec(**values), seed=0) is None


def test_given_images_are_varied_each_once_and_none_takes_them_as_they_are():
    split, source = make_split(), torch.tensor([30, 2, 2, 37])
    made = {
        kind: vary(split, source, AugmentSpec(kind=kind), torch.Generator().manual_seed(0))
        for kind in ("none", "geometric", "diffusion")
    }
    assert torch.equal(made["none"].batch(), split.batch(source))
    for each in made.values():
        assert each.labels.tolist() == [1, 0, 0, 1]
        assert [id_.split("source=")[1].partition(":")[0] for id_ in each.ids] == [split.ids[k] for k in source]
    assert not torch.equal(made["geometric"].images[1], made["geometric"].images[2])
    synthetic = augment(split, AugmentSpec(), seed=3)
    generator = torch.Generator().manual_seed(3)
    minority = 28 + torch.randint(10, (len(synthetic),), generator=generator)
    assert torch.equal(vary(split, minority, AugmentSpec(), generator).images, synthetic.images)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), kind=st.sampled_from(["diffusion", "geometric"]))
def test_equal_seeds_give_equal_samples_and_leave_torchs_generator_alone(seed, kind):
    split, spec = make_split(), AugmentSpec(kind=kind)
    before = torch.get_rng_state()
    first, again, other = (augment(split, spec, seed=s) for s in (seed, seed, seed + 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.images, again.images)
    assert first.ids == again.ids
    assert not torch.equal(first.images, other.images)


@pytest.mark.parametrize("kind", ["diffusion", "geometric"])
def test_chunks_do_not_change_the_samples(monkeypatch, kind):
    split, spec = make_split((60, 20)), AugmentSpec(kind=kind)
    whole = augment(split, spec, seed=0)
    monkeypatch.setattr("qhybrid.data.augment.CHUNK", 5)
    torch.testing.assert_close(augment(split, spec, seed=0).images, whole.images)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_are_kept_and_grey_noise_stays_grey(channels):
    synthetic = augment(make_split(channels=channels), AugmentSpec(), seed=0)
    assert synthetic.images.shape[1] == channels
    batch = synthetic.batch()
    assert batch.shape[1] == 3
    assert torch.equal(batch[:, 0], batch[:, 1]) == (channels == 1)


def test_geometric_augmentor_makes_the_same_number():
    split = make_split((280, 102))
    synthetic = augment(split, AugmentSpec(kind="geometric"), seed=0)
    assert synthetic.images.shape == (94, 1, 32, 32)
    assert 0 <= synthetic.images.min() < synthetic.images.max() <= 1
    assert all("turn=" in id_ for id_ in synthetic.ids)
    assert 20 < sum(id_.endswith("flip") for id_ in synthetic.ids) < 74


def test_geometric_transform_turns_mirrors_and_brightens():
    images = torch.rand((1, 1, 8, 8), generator=torch.Generator().manual_seed(0)) * 0.5

    def apply(degrees, flip, factor):
        return transform_geometrically(images, torch.tensor([degrees]), torch.tensor([flip]), torch.tensor([factor]))

    torch.testing.assert_close(apply(0.0, False, 1.0), images)
    torch.testing.assert_close(apply(0.0, True, 1.0), images.flip(-1))
    torch.testing.assert_close(apply(0.0, False, 1.5), 1.5 * images)
    torch.testing.assert_close(apply(90.0, False, 1.0), images.rot90(1, (-2, -1)), atol=1e-5, rtol=0)
    torch.testing.assert_close(apply(90.0, True, 1.0).sum(), images.sum(), atol=1e-4, rtol=0)
