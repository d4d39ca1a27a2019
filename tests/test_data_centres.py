"""Centres: who has which image, what their transforms do to it, and what is left out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import convolve, gaussian_filter
from tiny_centres import CENTRES, write_images

from qhybrid import catalog
from qhybrid.data.augment import augment
from qhybrid.data.centres import STRENGTHS, CentreSplit, centre_counts, load_centres, see, share_out
from qhybrid.data.centres_spec import CentreSpec, DomainsSpec
from qhybrid.data.preview import centres_sheet
from qhybrid.data.spec import AugmentSpec, DataSpec
from qhybrid.errors import InputError
from qhybrid.experiments.spec import ExperimentSpec, experiment_toml


def _data(images: Path) -> DataSpec:
    return DataSpec(source=f"medmnist:{images}", image_size=32)


def _domains(**settings: Any) -> DomainsSpec:
    return DomainsSpec.model_validate({"centres": CENTRES, "held_out": "B"} | settings)


def _seen(strengths: dict[str, float], images: torch.Tensor) -> np.ndarray:
    centre = CentreSpec.model_validate({"name": "A"} | strengths)
    return see(images, centre, torch.arange(len(images))).numpy()


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.rand((3, 1, 24, 24), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("n_centres", [2, 3, 7])
def test_every_image_has_one_centre_and_every_centre_its_share_of_each_class(n_centres: int) -> None:
    labels = np.random.default_rng(0).integers(0, 3, size=101)
    centres = share_out(labels, n_centres, seed=(0, 1)).numpy()
    sizes = np.bincount(centres, minlength=n_centres)
    assert sizes.sum() == 101
    assert np.ptp(sizes) <= 1
    for label in range(3):
        assert np.ptp(np.bincount(centres[labels == label], minlength=n_centres)) <= 1
    assert np.array_equal(centres, share_out(labels, n_centres, seed=(0, 1)).numpy())
    assert not np.array_equal(centres, share_out(labels, n_centres, seed=(1, 1)).numpy())


def test_the_centre_that_is_held_out_is_the_test_split_and_nothing_else(tmp_path: Path) -> None:
    data = _data(write_images(tmp_path / "images.npz"))
    tested: list[str] = []
    for name in "ABC":
        dataset = load_centres(data, _domains(held_out=name))
        counts = centre_counts(dataset)
        others = [other for other in "ABC" if other != name]
        assert {split: sorted(found) for split, found in counts.items()} == {
            "train": others, "validation": others, "test": [name],
        }  # fmt: skip
        assert all(sum(classes.values()) == 4 for split in counts.values() for classes in split.values())
        assert all(image_id.startswith(f"{name}:test/") for image_id in dataset.splits["test"].ids)
        tested += dataset.splits["test"].ids
    everything = load_centres(data, _domains(held_out="none")).splits["test"].ids
    assert len(tested) == len(set(tested)) == 12
    assert set(tested) == set(everything)


def test_each_transform_is_what_its_setting_says(pixels: torch.Tensor) -> None:
    x = pixels.numpy()
    assert set(STRENGTHS) | {"noise"} == set(CentreSpec.model_fields) - {"name", "source"}
    np.testing.assert_allclose(_seen({"brightness": -0.3}, pixels), np.clip(x - 0.3, 0, 1), atol=1e-6)
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(_seen({"contrast": 0.7}, pixels), np.clip(mean + 1.7 * (x - mean), 0, 1), atol=1e-6)
    np.testing.assert_allclose(_seen({"gamma": 2.5}, pixels), x**2.5, atol=1e-6)
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13  # torchvision's and Pillow's SMOOTH
    smooth = convolve(x, kernel[None, None])
    inside = (..., slice(1, -1), slice(1, -1))  # they leave the border as it is
    sharp = np.clip(x + 2 * (x - smooth), 0, 1)
    np.testing.assert_allclose(_seen({"sharpness": 2.0}, pixels)[inside], sharp[inside], atol=1e-5)
    sigma = 14 * 24 / 224
    blurred = gaussian_filter(x, (0, 0, sigma, sigma), mode="mirror", truncate=4)
    np.testing.assert_allclose(_seen({"blur": 14.0}, pixels), blurred, atol=1e-4)
    coarse = _seen({"resolution": 0.5}, pixels)
    assert coarse.shape == x.shape
    assert np.abs(np.diff(coarse)).mean() < 0.6 * np.abs(np.diff(x)).mean()
    assert _seen({}, pixels) is not x
    np.testing.assert_array_equal(_seen({}, pixels), x)


def test_the_noise_has_its_strength_and_follows_from_image_and_centre_alone(tmp_path: Path) -> None:
    grey = torch.full((2, 1, 64, 64), 0.5)
    noise = _seen({"noise": 0.1}, grey) - 0.5
    assert noise.std() == pytest.approx(0.1, rel=0.05)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05
    split = load_centres(_data(write_images(tmp_path / "images.npz")), _domains()).splits["test"]
    assert isinstance(split, CentreSplit)
    whole = split.batch()
    torch.testing.assert_close(split.batch([2])[0], whole[2], rtol=0, atol=1e-6)
    torch.testing.assert_close(split.subset([2, 0]).batch(), whole[[2, 0]], rtol=0, atol=1e-6)
    assert not torch.equal(whole, load_centres(_data(tmp_path / "images.npz"), _domains(seed=1)).splits["test"].batch())
    before = torch.random.get_rng_state()
    split.batch()
    assert torch.equal(before, torch.random.get_rng_state())


def test_grey_images_stay_grey_and_in_range(tmp_path: Path) -> None:
    images = (
        load_centres(_data(write_images(tmp_path / "images.npz")), _domains(held_out="none")).splits["train"].batch()
    )
    assert images.shape == (12, 3, 32, 32)
    assert torch.equal(images[:, 0], images[:, 2])
    assert 0 <= images.min() <= images.max() <= 1


def test_synthetic_samples_stay_at_the_centre_of_their_source(tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    write_images(path)
    arrays = dict(np.load(path))
    arrays["train_labels"][:9] = 0
    np.savez(path, **arrays)
    training = load_centres(_data(path), _domains(held_out="none")).splits["train"]
    made = augment(training, AugmentSpec(rho=1.0), seed=0)
    assert isinstance(made, CentreSplit)
    assert len(made) > 0
    for image_id, centre in zip(made.ids, made.centres.tolist(), strict=True):
        assert image_id.split("source=")[1].startswith("ABC"[centre])
    assert made.batch().shape[1:] == (3, 32, 32)


def _write_folder(root: Path, classes: tuple[str, ...], size: int, *, colour: bool = False) -> Path:
    rng = np.random.default_rng(size)
    for split in ("train", "validation", "test"):
        for name in classes:
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(2):
                pixels = rng.integers(0, 255, size=(size, size, *([3] if colour else []))).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def test_real_centres_have_images_of_their_own(tmp_path: Path) -> None:
    folders = [
        _write_folder(tmp_path / "x", ("no", "yes"), 40),
        _write_folder(tmp_path / "y", ("no", "yes"), 50, colour=True),
    ]
    centres = [{"name": folder.name, "source": f"folder:{folder}"} for folder in folders]
    domains = DomainsSpec.model_validate({"centres": centres, "held_out": "y"})
    dataset = load_centres(DataSpec(source="angiography", image_size=48), domains)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 4, "validation": 4, "test": 4}
    assert dataset.splits["train"].ids[0] == "x:train/no/0.png"
    assert dataset.splits["test"].batch().shape == (4, 3, 48, 48)
    assert dataset.splits["train"].images.dtype == torch.uint8
    centres_sheet(
        load_centres(DataSpec(image_size=48), domains.model_copy(update={"held_out": "none"})), tmp_path / "a.png"
    )
    assert (tmp_path / "a.png").stat().st_size > 1000
    other = _write_folder(tmp_path / "z", ("no", "perhaps"), 40)
    wrong = DomainsSpec.model_validate(
        {"centres": [centres[0], {"name": "z", "source": f"folder:{other}"}], "held_out": "z"}
    )
    with pytest.raises(InputError, match=r"all centres need the same classes: 'x' has no, yes; 'z' .* has no, perhaps"):
        load_centres(DataSpec(image_size=48), wrong)


@pytest.mark.parametrize(
    ("domains", "said"),
    [
        ({"held_out": "D"}, "held_out is 'D', which is no centre"),
        ({"held_out": "b"}, "did you mean 'B'"),
        ({"centres": CENTRES[:1]}, "domains.centres"),
        ({"centres": [*CENTRES, {"name": "A"}]}, "two centres are called 'A'"),
        ({"centres": [*CENTRES, {"name": "each"}]}, "'each' is a word of domains.held_out"),
        ({"centres": [*CENTRES, {"name": "D", "brightnes": 1}]}, "did you mean 'brightness'"),
        ({"centres": [*CENTRES, {"name": "D", "source": "folder:d"}]}, "either all centres have one or none"),
        ({"centres": [*CENTRES, {"name": "D", "source": "folder:d", "blur": 1}]}, "takes no blur"),
        ({"centres": [*CENTRES, {"name": "D", "source": "foldr:d"}]}, "did you mean 'folder'"),
        ({"centres": CENTRES[:2], "adversarial": 1}, "adversarial needs two training centres"),
        ({"adversarial": -1}, "domains.adversarial"),
    ],
)  # fmt: skip
def test_wrong_settings_are_one_line(domains: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        catalog.parse(ExperimentSpec, {"domains": {"centres": CENTRES, "held_out": "B"} | domains}, "mine.toml")
    assert said in str(caught.value)
    assert str(caught.value).startswith("mine.toml")
    assert "\n" not in str(caught.value)


def test_consistency_is_not_for_centres_with_sources() -> None:
    centres = [{"name": name, "source": f"folder:{name}"} for name in "ABC"]
    with pytest.raises(InputError, match="consistency needs a second view"):
        catalog.parse(ExperimentSpec, {"domains": {"centres": centres, "consistency": 1}}, "mine.toml")


def test_a_training_needs_one_centre_to_hold_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"held_out is 'each', for `qhybrid study`.*--set domains\.held_out=A"):
        load_centres(_data(write_images(tmp_path / "images.npz")), _domains(held_out="each"))


def test_a_centre_without_an_image_is_named(tmp_path: Path) -> None:
    data = _data(write_images(tmp_path / "images.npz", (12, 2, 12)))
    with pytest.raises(InputError, match=r"centre 'C' has no image in the validation split"):
        load_centres(data, _domains())


def test_experiments_without_centres_are_named_as_before() -> None:
    assert "domains" not in experiment_toml(ExperimentSpec())
