"""Generated angiographies: seeded, cached, dark vessels, and no task for a linear classifier."""

import threading

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from qhybrid.data import coronary, generated, radiograph
from qhybrid.data.angiography import draw, generate
from qhybrid.data.generated import cache_path, load_angiography
from qhybrid.data.spec import AngiographySpec

SMALL = {"train": (4, 3), "validation": (2, 2), "test": (2, 2)}


@pytest.fixture(scope="module")
def default_images():
    return generate(AngiographySpec())


def test_counts_shapes_and_order(default_images):
    assert {name: np.bincount(labels).tolist() for name, (_, labels) in default_images.items()} == {
        "train": [280, 102],
        "validation": [60, 60],
        "test": [60, 60],
    }
    images, _ = default_images["train"]
    assert images.shape == (382, 64, 64)
    assert images.dtype == np.uint8


def test_every_image_differs(default_images):
    everything = np.concatenate([images for images, _ in default_images.values()])
    assert len({image.tobytes() for image in everything}) == 622


def test_images_use_the_range_of_grey_values(default_images):
    for images, _ in default_images.values():
        spread = np.percentile(images, 99, axis=(1, 2)) - np.percentile(images, 1, axis=(1, 2))
        assert spread.min() > 40
        assert np.mean(images == 255) < 0.02


def test_an_image_depends_on_its_seed_and_number_only(default_images):
    fewer = generate(AngiographySpec(train=(5, 2), validation=(1, 1), test=(1, 1)))
    assert np.array_equal(fewer["train"][0][:5], default_images["train"][0][:5])
    assert np.array_equal(fewer["train"][0][5:], default_images["train"][0][280:282])
    assert np.array_equal(fewer["test"][0][1], default_images["test"][0][60])
    other = generate(AngiographySpec(train=(1, 1), validation=(1, 1), test=(1, 1), seed=1))
    assert not np.array_equal(other["train"][0][0], fewer["train"][0][0])


def test_a_linear_classifier_stays_under_three_quarters(default_images):
    (train, labels), (test, test_labels) = default_images["train"], default_images["test"]
    features, test_features = (images.reshape(len(images), -1) / 255 for images in (train, test))
    accuracies = [
        LogisticRegression(C=strength, class_weight=weight, max_iter=500)
        .fit(features, labels)
        .score(test_features, test_labels)
        for strength in (1e-3, 1e-2, 1e-1, 1)
        for weight in (None, "balanced")
    ]
    assert max(accuracies) < 0.75


@pytest.mark.parametrize(("view", "size"), [("patch", 64), ("tree", 224), ("crop", 32)])
def test_views_and_sizes(view, size):
    assert draw(AngiographySpec(view=view), (0, 1, 0)).shape == (size, size)
    assert draw(AngiographySpec(view=view, size=96), (0, 1, 0)).shape == (96, 96)


@pytest.mark.parametrize("difficulty", [0.0, 1.0])
def test_difficulty_moves_severity_narrowing_and_noise(difficulty):
    rng = np.random.default_rng(0)
    from qhybrid.data.angiography import _lesion

    sick = [_lesion(rng, difficulty, 64, positive=True).severity for _ in range(300)]
    healthy = [_lesion(rng, difficulty, 64, positive=False).severity for _ in range(300)]
    assert min(sick) == pytest.approx(0.75 - 0.3 * difficulty, abs=0.01)
    assert max(sick) == pytest.approx(0.95, abs=0.01)
    assert max(healthy) == pytest.approx(0.4 * difficulty, abs=0.01)
    assert draw(AngiographySpec(difficulty=difficulty), (0, 1, 0)).std() > 5


def test_default_difficulty_is_the_issues():
    from qhybrid.data.angiography import _lesion

    rng = np.random.default_rng(0)
    sick = [_lesion(rng, AngiographySpec().difficulty, 64, positive=True).severity for _ in range(300)]
    healthy = [_lesion(rng, AngiographySpec().difficulty, 64, positive=False).severity for _ in range(300)]
    assert 0.6 <= min(sick) <= 0.61
    assert max(sick) <= 0.95
    assert max(healthy) <= 0.2


def test_thickness_of_a_straight_tube_is_its_chord():
    x = np.arange(-10, 74, coronary.SPACING)
    vessel = coronary.Vessel(np.stack([x, np.full(len(x), 32.0)], axis=1), np.full(len(x), 6.0), np.full(len(x), 0.5))
    depth = radiograph.thickness([vessel], 64)
    offset = np.arange(64) + 0.5 - 32
    expected = 0.5 * 2 * np.sqrt(np.clip(36 - offset**2, 0, None))
    np.testing.assert_allclose(depth[:, 32], expected, atol=0.35)
    np.testing.assert_allclose(radiograph.thickness([vessel, vessel], 64), depth)


def test_narrowing_takes_its_share_of_the_diameter_where_it_is_placed():
    rng = np.random.default_rng(0)
    path = coronary.wander(np.zeros(2), 0.3, 80, 0.2, rng)
    vessel = coronary.Vessel(path, np.full(len(path), 6.0), np.ones(len(path)))
    sick = coronary.narrow(vessel, 50, 0.8, 14, 0.0)
    assert np.argmin(sick.radius) == 50
    assert sick.radius[50] == pytest.approx(0.2 * 6)
    assert sick.radius[0] == pytest.approx(6)
    np.testing.assert_allclose(sick.points, path)
    eccentric = coronary.narrow(vessel, 50, 0.8, 14, 1.0)
    assert np.linalg.norm(eccentric.points[50] - path[50]) == pytest.approx(0.8 * 6)


def test_vessels_taper_and_branches_are_thinner_than_their_parent():
    rng = np.random.default_rng(1)
    parent = coronary.tube(coronary.wander(np.zeros(2), 0, 90, 0.3, rng), (6, 3), (1, 0.8), rng)
    child = coronary.branch(parent, 40, 1, 50, rng)
    assert parent.radius[0] > 1.6 * parent.radius[-1]
    assert child.radius[0] < 0.8 * parent.radius[40]
    np.testing.assert_allclose(child.points[0], parent.points[40])


def test_poisson_noise_follows_the_dose():
    depth = np.zeros((64, 64))
    spread = [
        radiograph.expose(depth, np.random.default_rng(0), photons=photons, motion=0.1).std() for photons in (200, 800)
    ]
    assert spread[0] / spread[1] == pytest.approx(2, rel=0.1)


def test_cache_is_written_once_and_read(tmp_path, monkeypatch):
    spec = AngiographySpec(**SMALL)
    first = load_angiography(spec, image_size=64, cache_dir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [cache_path(spec, tmp_path).name]
    monkeypatch.setattr(generated, "generate", lambda _: pytest.fail("generated although cached"))
    again = load_angiography(spec, image_size=64, cache_dir=tmp_path)
    assert again.fingerprint() == first.fingerprint()
    assert again.splits["train"].ids[0] == "train/0"
    assert again.class_names == ("negative", "positive")
    assert again.splits["train"][0][0].shape == (3, 64, 64)


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "other"])
def test_damaged_cache_is_regenerated(tmp_path, damage):
    spec = AngiographySpec(**SMALL)
    first = load_angiography(spec, image_size=64, cache_dir=tmp_path)
    path = cache_path(spec, tmp_path)
    content = path.read_bytes()
    if damage == "other":
        np.savez(path, train_images=np.zeros(3))
    else:
        path.write_bytes({"cut": content[:-100], "text": b"no archive", "empty": b""}[damage])
    assert load_angiography(spec, image_size=64, cache_dir=tmp_path).fingerprint() == first.fingerprint()
    assert path.read_bytes() == content


def test_settings_have_their_own_cache_files(tmp_path):
    settings = [{}, {"seed": 1}, {"view": "tree"}, {"difficulty": 0.4}, {"test": (1, 1)}]
    assert len({cache_path(AngiographySpec(**values), tmp_path) for values in settings}) == len(settings)


def test_cache_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").touch()
    dataset = load_angiography(AngiographySpec(**SMALL), image_size=64, cache_dir=tmp_path / "file" / "cache")
    assert len(dataset.splits["train"]) == 7


def test_several_at_once_leave_one_whole_file(tmp_path):
    spec, found = AngiographySpec(**SMALL), []
    workers = [
        threading.Thread(
            target=lambda: found.append(load_angiography(spec, image_size=64, cache_dir=tmp_path).fingerprint())
        )
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]


def test_a_crop_of_a_positive_has_its_stenosed_vessel_and_one_of_a_negative_mostly_none() -> None:
    spec = AngiographySpec(view="crop")

    def darkest(label: int) -> float:
        """How much darker the middle is than the whole, in spreads, averaged over crops without a collimator."""
        images = [draw(spec, (0, label, number)).astype(float) for number in range(40)]
        open_ones = [image for image in images if (image < 20).mean() < 0.02]
        assert len(open_ones) > 25
        return float(np.mean([(np.median(i) - np.percentile(i[8:24, 8:24], 5)) / i.std() for i in open_ones]))

    assert darkest(1) > darkest(0) + 0.5
