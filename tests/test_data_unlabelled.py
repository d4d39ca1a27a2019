"""A folder of images without labels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qhybrid.data.unlabelled import load_unlabelled
from qhybrid.errors import InputError


def picture(path: Path, value: int, size: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size), value, dtype=np.uint8)).save(path)


def test_images_of_any_depth_are_read_in_the_order_of_their_paths(tmp_path: Path) -> None:
    picture(tmp_path / "b.png", 2)
    picture(tmp_path / "a" / "deep" / "er" / "c.PNG", 1)
    picture(tmp_path / ".thumbnails" / "x.png", 9)
    (tmp_path / "notes.txt").write_text("no image")
    found = load_unlabelled(tmp_path, name="images:x", image_size=32)
    assert found.ids == ("a/deep/er/c.PNG", "b.png")
    assert found.images[:, 0, 0, 0].tolist() == [1, 2]
    assert found.labels.tolist() == [0, 0]


def test_what_is_missing_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"images 'images:x': folder does not exist"):
        load_unlabelled(tmp_path / "nowhere", name="images:x", image_size=32)
    with pytest.raises(InputError, match=r"no image in .* \(allowed: png, "):
        load_unlabelled(tmp_path, name="images:x", image_size=32)
    (tmp_path / "a.png").write_bytes(b"none")
    with pytest.raises(InputError, match=r"a.png: not a readable image"):
        load_unlabelled(tmp_path, name="images:x", image_size=32)
