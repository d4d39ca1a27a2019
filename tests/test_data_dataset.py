"""Splits: sizes, ranges, batches, fingerprints, what is refused."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.transforms.v2.functional import resize as torchvision_resize

from qhybrid.data.dataset import ImageDataset, Split, check_dataset
from qhybrid.data.partition import stratified
from qhybrid.errors import InputError


def make_split(n=10, *, channels=1, size=20, image_size=32, dtype=torch.uint8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (n, channels, size, size), generator=generator, dtype=torch.uint8)
    if dtype != torch.uint8:
        images = images.float() / 255
    return Split(images, torch.arange(n) % 2, tuple(f"train/{i}" for i in range(n)), image_size)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(("size", "image_size"), [(20, 32), (64, 32), (32, 32)])
def test_images_are_three_channels_in_unit_range_at_the_asked_size(channels, dtype, size, image_size):
    split = make_split(channels=channels, size=size, image_size=image_size, dtype=dtype)
    image, label = split[3]
    assert image.shape == (3, image_size, image_size)
    assert image.dtype == torch.float32
    assert 0 <= image.min() < image.max() <= 1
    assert label == 1
    assert isinstance(label, int)
    if channels == 1:
        assert torch.equal(image[0], image[2])


def test_resize_is_torchvisions_bilinear_antialias():
    split = make_split(size=50, image_size=32)
    expected = torchvision_resize(split.images.float() / 255, [32, 32], antialias=True)
    torch.testing.assert_close(split.batch()[:, :1], expected)


def test_batched_items_equal_single_items():
    split = make_split()
    batched = split.__getitems__([7, 0, 3])
    for (image, label), index in zip(batched, [7, 0, 3], strict=True):
        torch.testing.assert_close(image, split[index][0])
        assert label == split[index][1]
    images, labels = next(iter(DataLoader(split, batch_size=4)))
    torch.testing.assert_close(images, split.batch([0, 1, 2, 3]))
    assert labels.tolist() == [0, 1, 0, 1]


def test_split_is_a_finite_sequence():
    split = make_split(4)
    assert len(list(split)) == 4
    assert torch.equal(split[-1][0], split[3][0])
    with pytest.raises(IndexError):
        split[4]


def test_subset_keeps_images_labels_and_ids_together():
    part = make_split().subset([5, 2])
    assert part.ids == ("train/5", "train/2")
    assert part.labels.tolist() == [1, 0]
    assert torch.equal(part.images[0], make_split().images[5])
    assert part.class_counts() == (1, 1)
    assert part.class_counts(3) == (1, 1, 0)


def make_dataset(**changes):
    splits = {name: make_split(6, seed=i) for i, name in enumerate(("train", "validation", "test"))}
    return ImageDataset("source", ("no", "yes"), {**splits, **changes})


def test_fingerprint_follows_pixels_and_labels():
    dataset = make_dataset()
    assert dataset.fingerprint() == make_dataset().fingerprint()
    assert len(dataset.fingerprint()) == 64
    pixel = make_split(6, seed=2)
    pixel.images[0, 0, 0, 0] += 1
    assert make_dataset(test=pixel).fingerprint() != dataset.fingerprint()
    label = make_split(6, seed=2)
    label.labels[0] = 1
    assert make_dataset(test=label).fingerprint() != dataset.fingerprint()


def test_class_counts_are_by_split_and_name():
    assert make_dataset().class_counts()["test"] == {"no": 3, "yes": 3}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 0, 0, 0, 0, 0], "one class only"),
        ([0, 1, 0, 1, 0, 2], "label 2; labels run from 0 to 1"),
        ([0, 1, 0, 1, 0, -1], "label -1; labels run from 0 to 1"),
        ([], "is empty"),
    ],
)
def test_split_that_cannot_be_measured_is_refused(labels, message):
    bad = make_split(len(labels))
    bad.labels[:] = torch.tensor(labels, dtype=torch.int64)
    with pytest.raises(InputError, match=f"the test split.*{message}"):
        check_dataset(make_dataset(test=bad))


def test_class_without_training_image_is_refused():
    dataset = make_dataset()
    with pytest.raises(InputError, match="train split has no image of class 'maybe'"):
        check_dataset(ImageDataset("source", ("no", "yes", "maybe"), dataset.splits))


def test_stratified_split_is_a_seeded_partition_by_class():
    labels = [0] * 50 + [1] * 20 + [2] * 3
    parts = stratified(labels, (0.7, 0.15, 0.15), seed=1, where="source")
    assert sorted(index for part in parts.values() for index in part) == list(range(73))
    counts = {name: np.bincount(np.array(labels)[part], minlength=3).tolist() for name, part in parts.items()}
    assert counts == {"train": [34, 14, 1], "validation": [8, 3, 1], "test": [8, 3, 1]}
    assert parts == stratified(labels, (0.7, 0.15, 0.15), seed=1, where="source")
    assert parts != stratified(labels, (0.7, 0.15, 0.15), seed=2, where="source")


def test_class_with_too_few_images_to_split_is_refused():
    with pytest.raises(InputError, match=r"source: class 1 has 2 image\(s\), too few"):
        stratified([0, 0, 0, 1, 1], (0.7, 0.15, 0.15), seed=0, where="source")
