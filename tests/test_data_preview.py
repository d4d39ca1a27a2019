"""Contact sheets: the right pictures in the right places, and no global plotting state."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from qhybrid.data import preview
from qhybrid.data.augment import noise_schedule
from qhybrid.data.dataset import ImageDataset, Split
from qhybrid.data.preview import augment_sheet, contact_sheet
from qhybrid.data.spec import AugmentSpec
from qhybrid.errors import InputError


@pytest.fixture
def dataset():
    generator = torch.Generator().manual_seed(0)
    splits = {}
    for name, n in (("train", 13), ("validation", 6), ("test", 6)):
        images = torch.randint(256, (n, 1, 20, 20), generator=generator, dtype=torch.uint8)
        labels = (torch.arange(n) % 3 == 0).long()
        splits[name] = Split(images, labels, tuple(map(str, range(n))), 32)
    return ImageDataset("folder:x", ("healthy", "sick"), splits)


@pytest.fixture
def saved(monkeypatch):
    """The figures that were saved."""
    figures, save = [], preview._save
    monkeypatch.setattr(preview, "_save", lambda figure, path: (figures.append(figure), save(figure, path)))
    return figures


def pictures(figure):
    """(rows, columns) of image arrays, None where a place is empty."""
    grid = figure.axes[0].get_subplotspec().get_gridspec()
    shown = [axis.images[0].get_array() if axis.images else None for axis in figure.axes]
    return [shown[row * grid.ncols : (row + 1) * grid.ncols] for row in range(grid.nrows)]


def labels(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_contact_sheet_shows_each_class_of_each_split(dataset, saved, tmp_path):
    path = tmp_path / "new" / "sheet.png"
    contact_sheet(dataset, path, per_class=4)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width > 700
    rows = pictures(saved[0])
    assert [sum(picture is not None for picture in row) for row in rows] == [4, 4, 4, 2, 4, 2]
    assert labels(saved[0])[1] == "train\nsick\n5 images"
    np.testing.assert_allclose(rows[1][1], dataset.splits["train"][3][0].permute(1, 2, 0).numpy())


def test_augment_sheet_has_a_row_for_every_step(dataset, saved, tmp_path):
    spec = AugmentSpec(brightness=(1, 1), blur_sigma=0)
    augment_sheet(dataset, spec, tmp_path / "sheet.png", seed=0)
    rows = pictures(saved[0])
    assert labels(saved[0]) == [
        "original",
        "t = 0\nσ = 0.000",
        "t = 1\nσ = 0.010",
        "t = 2\nσ = 0.072",
        "t = 3\nσ = 0.123",
        "t = 4\nσ = 0.173",
    ]
    assert len(rows[0]) == 5  # all of the smaller class
    np.testing.assert_allclose(rows[1][2], rows[0][2], atol=1e-6)
    distance = [np.abs(np.asarray(row[2]) - np.asarray(rows[0][2])).mean() for row in rows]
    assert distance == sorted(distance)
    sigma = float((1 - noise_schedule(spec)[4]).sqrt())
    assert 0.4 * sigma < distance[5] < sigma
    np.testing.assert_allclose(rows[5][0][..., 0], rows[5][0][..., 2])


def test_augment_sheet_is_seeded(dataset, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        augment_sheet(dataset, AugmentSpec(), tmp_path / name, seed=seed)
    first, again, other = (np.asarray(Image.open(tmp_path / name)) for name in "abc")
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_long_schedules_show_eight_steps_and_geometry_shows_draws(dataset, saved, tmp_path):
    augment_sheet(dataset, AugmentSpec(steps=100, include_last_step=True), tmp_path / "a.png", seed=0)
    assert len(pictures(saved[0])) == 9
    assert labels(saved[0])[-1].startswith("t = 100")
    augment_sheet(dataset, AugmentSpec(kind="geometric"), tmp_path / "b.png", seed=0)
    assert labels(saved[1])[1:] == ["draw 1", "draw 2", "draw 3", "draw 4"]


def test_nothing_to_show_and_nowhere_to_write_are_errors(dataset, tmp_path):
    with pytest.raises(InputError, match=r"augment\.kind is 'none'"):
        augment_sheet(dataset, AugmentSpec(kind="none"), tmp_path / "a.png", seed=0)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        contact_sheet(dataset, tmp_path / "file" / "a.png")


@pytest.mark.slow
def test_preview_never_imports_pyplot():
    code = (
        "import sys, torch; from pathlib import Path; from qhybrid.data import preview;"
        "figure, axes = preview._grid(1, 1, title='x'); print('matplotlib.pyplot' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
