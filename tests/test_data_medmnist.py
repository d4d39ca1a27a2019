"""MedMNIST files: what is read, and what is refused in one line."""

from pathlib import Path

import numpy as np
import pytest
import torch

from qhybrid.data.sources import load_dataset
from qhybrid.data.spec import DataSpec
from qhybrid.errors import InputError

PNEUMONIA = Path(__file__).parents[1].parent / "shared" / "data" / "pneumoniamnist.npz"


def arrays(*, shape=(28, 28), n_classes=2, n=(12, 6, 6)):
    rng = np.random.default_rng(0)
    made = {}
    for key, count in zip(("train", "val", "test"), n, strict=True):
        made[f"{key}_images"] = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        made[f"{key}_labels"] = (np.arange(count) % n_classes).astype(np.uint8)[:, None]
    return made


def save(path, **changes):
    np.savez_compressed(path, **{**arrays(), **changes})
    return path


def load(path, **settings):
    return load_dataset(DataSpec(source=f"medmnist:{path}", image_size=32, **settings))


def message_of(path):
    with pytest.raises(InputError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert Path(path).name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("shape", "channels"), [((28, 28), 1), ((28, 28, 1), 1), ((28, 28, 3), 3)])
def test_grey_and_colour_files_load(tmp_path, shape, channels):
    made = arrays(shape=shape)
    np.savez(tmp_path / "some.npz", **made)
    dataset = load(tmp_path / "some.npz")
    train = dataset.splits["train"]
    assert train.images.shape == (12, channels, 28, 28)
    assert train.images.dtype == torch.uint8
    assert train.labels.tolist() == made["train_labels"].ravel().tolist()
    assert train.ids[7] == "train/7"
    assert dataset.class_names == ("class 0", "class 1")
    image = made["train_images"].reshape(12, 28, 28, channels)[5, :, :, 0]
    assert np.array_equal(train.images[5, 0].numpy(), image)
    assert train[0][0].shape == (3, 32, 32)


def test_many_classes_and_known_names(tmp_path):
    np.savez(tmp_path / "bloodmnist_64.npz", **arrays(n_classes=8, n=(16, 8, 8)))
    assert load(tmp_path / "bloodmnist_64.npz").class_names[4] == "lymphocyte"
    np.savez(tmp_path / "other.npz", **arrays(n_classes=8, n=(16, 8, 8)))
    assert load(tmp_path / "other.npz").class_names == tuple(f"class {i}" for i in range(8))


def test_missing_file_names_the_nearest(tmp_path):
    save(tmp_path / "pneumoniamnist.npz")
    assert "did you mean 'pneumoniamnist.npz'" in message_of(tmp_path / "pneumoniamnits.npz")
    (tmp_path / "datasets").mkdir()
    with pytest.raises(InputError, match="did you mean 'datasets'"):
        load(tmp_path / "dataset" / "a.npz")


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98])
def test_truncated_file(tmp_path, share):
    path = save(tmp_path / "cut.npz")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "not a readable npz file" in message_of(path)


def test_flipped_bytes(tmp_path):
    path = save(tmp_path / "flipped.npz")
    content = bytearray(path.read_bytes())
    content[2000:2400] = bytes(400)
    path.write_bytes(bytes(content))
    assert "not a readable npz file" in message_of(path)


def test_pickled_objects_are_never_loaded(tmp_path):
    path = tmp_path / "objects.npz"
    labels = np.array([{"label": 0}] * 12, dtype=object)
    np.savez(path, **{**arrays(), "train_labels": labels})
    assert "not a readable npz file" in message_of(path)


def test_single_array_and_wrong_keys(tmp_path):
    np.save(tmp_path / "array.npy", np.zeros((3, 4)))
    assert "a single array" in message_of(tmp_path / "array.npy")
    made = arrays()
    made["validation_images"] = made.pop("val_images")
    np.savez(tmp_path / "keys.npz", **made)
    message = message_of(tmp_path / "keys.npz")
    assert "array 'val_images' is missing; did you mean" in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"val_images": np.zeros((6, 28, 28, 28), np.uint8)}, "3D volumes are not supported"),
        ({"val_images": np.zeros((6, 28, 28, 28, 3), np.uint8)}, "3D volumes are not supported"),
        ({"val_images": np.zeros((6, 28), np.uint8)}, r"allowed: (N, h, w)"),
        ({"val_images": np.zeros((6, 28, 28))}, "is float64; allowed: uint8"),
        ({"val_images": np.zeros((5, 28, 28), np.uint8)}, "5 entries and val_labels 6"),
        ({"val_labels": np.zeros((6, 14), np.uint8)}, "multi-label sets are not supported"),
        ({"val_labels": np.zeros((6, 1))}, "allowed: integers"),
        ({"val_labels": np.zeros((6, 1), np.uint8)}, "validation split has images of one class only"),
        ({"val_labels": np.array([[-1], [0], [1], [0], [1], [0]])}, "label -1"),
        ({"val_labels": np.array([[5], [0], [1], [0], [1], [0]])}, "train split has no image of class 'class 2'"),
    ],
)
def test_wrong_content(tmp_path, changes, words):
    assert words in message_of(save(tmp_path / "wrong.npz", **changes))


def test_label_beyond_the_known_classes(tmp_path):
    path = save(tmp_path / "pneumoniamnist.npz", test_labels=np.array([[0], [1], [2], [0], [1], [0]]))
    assert "test split has label 2; labels run from 0 to 1" in message_of(path)


@pytest.mark.skipif(not PNEUMONIA.is_file(), reason="../shared/data/pneumoniamnist.npz is absent")
def test_real_pneumonia_file():
    dataset = load(PNEUMONIA)
    assert [len(split) for split in dataset.splits.values()] == [4708, 524, 624]
    assert dataset.class_names == ("normal", "pneumonia")
    assert dataset.splits["test"].batch([0, 1]).shape == (2, 3, 32, 32)
