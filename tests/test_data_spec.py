"""The `[data]` and `[augment]` tables: defaults of the paper, and errors of one line."""

import subprocess
import sys

import pytest

from qhybrid.catalog import parse
from qhybrid.data.spec import AugmentSpec, DataSpec, parse_source
from qhybrid.errors import InputError


def test_defaults_are_the_papers():
    data, augmentation = DataSpec(), AugmentSpec()
    assert data.angiography.train == (280, 102)
    assert data.angiography.validation == data.angiography.test == (60, 60)
    assert data.transforms == []
    assert (augmentation.rho, augmentation.steps, augmentation.blur_sigma) == (0.7, 5, 0.5)
    assert (augmentation.beta_start, augmentation.beta_end) == (1e-4, 0.02)
    assert not augmentation.include_last_step


def test_specification_imports_nothing_heavy():
    code = "import sys, qhybrid.data.spec; print([m for m in ('torch', 'numpy', 'scipy') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"source": "medmnit:a.npz"}, ["'source'", "medmnit", "did you mean 'medmnist'"]),
        ({"source": "medmnist:"}, ["no path", "medmnist:PATH.npz"]),
        ({"source": "angiography:x"}, ["takes no path"]),
        ({"image_siez": 96}, ["unknown key 'image_siez'", "did you mean 'image_size'"]),
        ({"image_size": 16}, ["'image_size'", "16", "32"]),
        ({"transforms": ["afine"]}, ["'transforms.0'", "afine", "'affine'"]),
        ({"transforms": ["flip", "flip"]}, ["'flip' is listed twice"]),
        ({"fractions": [0.5, 0.2, 0.2]}, ["must sum to 1", "0.9"]),
        ({"angiography": {"veiw": "tree"}}, ["unknown key 'angiography.veiw'", "did you mean 'view'"]),
        ({"angiography": {"train": [280, 0]}}, ["'angiography.train.1'", "greater than 0"]),
        ({"dicom": {"frame": -1}}, ["'dicom.frame'", "-1"]),
    ],
)
def test_wrong_data_table_is_one_line_with_key_and_nearest_match(values, words):
    with pytest.raises(InputError) as caught:
        parse(DataSpec, values, "experiment.toml")
    message = str(caught.value)
    assert message.startswith("experiment.toml: ")
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "difusion"}, ["'kind'", "difusion", "'diffusion'"]),
        ({"rho": -0.4}, ["'rho'", "-0.4"]),
        ({"beta_start": 0.5}, ["beta_start 0.5 must not exceed beta_end 0.02"]),
        ({"brightness": [1.1, 0.9]}, ["'brightness'", "[low, high]"]),
    ],
)
def test_wrong_augment_table_is_one_line_with_key(values, words):
    with pytest.raises(InputError) as caught:
        parse(AugmentSpec, values, "experiment.toml")
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_source_that_is_a_path_asks_for_its_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "set.npz").touch()
    with pytest.raises(InputError, match="did you mean 'folder:images'"):
        parse_source("images")
    with pytest.raises(InputError, match=r"did you mean 'medmnist:set\.npz'"):
        parse_source("set.npz")
