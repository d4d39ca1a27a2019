"""Training-time transforms: range, shape, seed, and what each of them does."""

import pickle

import pytest
import torch

from qhybrid.data.transforms import TRANSFORMS, training_transforms


@pytest.fixture
def image():
    return torch.rand((3, 32, 32), generator=torch.Generator().manual_seed(0))


def test_no_names_leave_the_image_alone(image):
    assert training_transforms([])(image) is image


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_each_varies_within_the_unit_range(image, name):
    torch.manual_seed(0)
    transform = training_transforms([name])
    results = [transform(image) for _ in range(20)]
    assert any(not torch.equal(result, image) for result in results)
    for result in results:
        assert result.shape == image.shape
        assert result.dtype == torch.float32
        assert 0 <= result.min() <= result.max() <= 1


def test_torchs_seed_decides(image):
    transform = training_transforms(["affine", "flip", "quarter_turns", "brightness", "contrast"])
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(transform(image))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_quarter_turns_and_flip_give_the_eight_symmetries(image):
    torch.manual_seed(0)
    transform = training_transforms(["flip", "quarter_turns"])
    seen = {transform(image).numpy().tobytes() for _ in range(200)}
    expected = {
        turned.rot90(times, (-2, -1)).contiguous().numpy().tobytes()
        for turned in (image, image.flip(-1))
        for times in range(4)
    }
    assert seen == expected


def test_it_reaches_the_workers_of_a_loader(image):
    transform = pickle.loads(pickle.dumps(training_transforms(["flip"])))
    assert transform(image).shape == image.shape
