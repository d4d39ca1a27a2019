"""Folders of image files: both layouts, kinds of files, and what is refused in one line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from qhybrid.data.images import read_image
from qhybrid.data.sources import load_dataset
from qhybrid.data.spec import DataSpec
from qhybrid.errors import InputError

STENOSIS = Path(__file__).parents[1].parent / "shared" / "data" / "stenosis"


def picture(path, *, size=(24, 24), seed=0, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def splits_folder(root, validation="validation"):
    for number, split in enumerate(("train", validation, "test")):
        for label, class_name in enumerate(("healthy", "sick")):
            for index in range(3):
                picture(root / split / class_name / f"{index}.png", seed=100 * number + 10 * label + index)
    return root


def load(root, **settings):
    return load_dataset(DataSpec(source=f"folder:{root}", image_size=32, **settings))


def message_of(root):
    with pytest.raises(InputError) as caught:
        load(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("validation", ["validation", "val", "Valid"])
def test_split_folders(tmp_path, validation):
    dataset = load(splits_folder(tmp_path, validation))
    assert dataset.class_names == ("healthy", "sick")
    assert dataset.class_counts() == {s: {"healthy": 3, "sick": 3} for s in ("train", "validation", "test")}
    test = dataset.splits["test"]
    assert test.ids[4] == "test/sick/1.png"
    expected = np.random.default_rng(211).integers(0, 256, (24, 24), dtype=np.uint8)
    assert np.array_equal(test.images[4, 0].numpy(), expected)


def test_folder_of_classes_is_split_by_fractions(tmp_path):
    for class_name, count in (("a", 20), ("b", 10), ("c", 4)):
        for index in range(count):
            picture(tmp_path / class_name / f"{index:02}.png", seed=100 * ord(class_name) + index)
    dataset = load(tmp_path, fractions=(0.5, 0.25, 0.25))
    assert dataset.class_counts()["train"] == {"a": 10, "b": 6, "c": 2}
    assert dataset.class_counts()["test"] == {"a": 5, "b": 2, "c": 1}
    ids = [id_ for split in dataset.splits.values() for id_ in split.ids]
    assert len(set(ids)) == 34
    assert "b/03.png" in ids
    other = load(tmp_path, fractions=(0.5, 0.25, 0.25), split_seed=1)
    assert other.splits["test"].ids != dataset.splits["test"].ids


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp", "PNG"])
def test_file_formats(tmp_path, suffix):
    root = splits_folder(tmp_path)
    picture(root / "train" / "sick" / f"new.{suffix}", mode="RGB")
    train = load(root).splits["train"]
    assert f"train/sick/new.{suffix}" in train.ids
    assert train.images.shape == (7, 3, 24, 24)
    assert train.images.dtype == torch.uint8


def test_sixteen_bit_files_keep_their_depth(tmp_path):
    Image.fromarray(np.array([[0, 1], [32768, 65535]], dtype=np.uint16)).save(tmp_path / "deep.png")
    image = read_image(tmp_path / "deep.png")
    assert image.dtype == torch.float32
    torch.testing.assert_close(image[0], torch.tensor([[0, 1 / 65535], [32768 / 65535, 1]]))


def test_palette_and_transparency_become_colour(tmp_path):
    colour = Image.fromarray(np.full((4, 4, 3), (200, 10, 10), dtype=np.uint8))
    colour.convert("P").save(tmp_path / "palette.png")
    colour.convert("RGBA").save(tmp_path / "alpha.png")
    assert read_image(tmp_path / "palette.png").shape == (3, 4, 4)
    assert read_image(tmp_path / "alpha.png")[:, 0, 0].tolist() == [200, 10, 10]


def test_images_of_several_or_large_sizes_are_resized_when_read(tmp_path):
    root = splits_folder(tmp_path)
    picture(root / "test" / "sick" / "wide.png", size=(40, 30))
    dataset = load(root)
    assert dataset.splits["train"].images.shape[-2:] == (24, 24)
    assert dataset.splits["test"].images.shape[-2:] == (32, 32)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_truncated_file_is_named(tmp_path, share):
    root = splits_folder(tmp_path)
    broken = root / "train" / "sick" / "1.png"
    content = broken.read_bytes()
    broken.write_bytes(content[: int(share * len(content))])
    assert f"{broken}: not a readable image" in message_of(root)


def test_unreadable_files_can_be_collected(tmp_path):
    root = splits_folder(tmp_path)
    (root / "train" / "sick" / "1.png").write_text("no image")
    unreadable: list[str] = []
    dataset = load_dataset(DataSpec(source=f"folder:{root}", image_size=32), unreadable=unreadable)
    assert len(unreadable) == 1
    assert "1.png" in unreadable[0]
    assert dataset.class_counts()["train"] == {"healthy": 3, "sick": 2}
    assert dataset.splits["train"].ids[-1] == "train/sick/2.png"


def test_missing_folder_names_the_nearest(tmp_path):
    splits_folder(tmp_path / "stenosis")
    message = message_of(tmp_path / "stenosys")
    assert "folder does not exist" in message
    assert "did you mean 'stenosis'" in message


def test_missing_split_class_and_images_are_named(tmp_path):
    root = splits_folder(tmp_path)
    for path in (root / "test" / "sick").iterdir():
        path.unlink()
    assert f"class folder {root / 'test' / 'sick'} has no images" in message_of(root)
    (root / "test" / "sick").rmdir()
    assert f"{root / 'test'} has no folder for class 'sick'" in message_of(root)
    (root / "validation").rename(root / "validierung")
    assert "has no 'validation' folder; found: test, train, validierung" in message_of(root)


def test_folder_without_classes(tmp_path):
    picture(tmp_path / "a" / "1.png")
    assert "holds 1 folder(s)" in message_of(tmp_path)


def test_split_with_one_class(tmp_path):
    for split in ("train", "validation", "test"):
        picture(tmp_path / split / "only" / "1.png")
    assert "one class only ('only')" in message_of(tmp_path)


@pytest.mark.skipif(not STENOSIS.is_dir(), reason="../shared/data/stenosis is absent")
def test_real_stenosis_folder():
    dataset = load(STENOSIS)
    assert [len(split) for split in dataset.splits.values()] == [100, 25, 122]
    assert dataset.class_names == ("negative", "positive")
    assert dataset.splits["train"].images.shape == (100, 1, 32, 32)
