"""Audits: duplicates, leaks, conflicts, damaged files, and the removal of leaks."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from qhybrid.data import audit as module
from qhybrid.data.audit import audit, drop_leaks
from qhybrid.data.dataset import ImageDataset, Split
from qhybrid.data.sources import load_dataset
from qhybrid.data.spec import DataSpec
from qhybrid.errors import InputError

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


def make_dataset(n=(20, 10, 10)):
    generator = torch.Generator().manual_seed(0)
    splits = {}
    for name, count in zip(("train", "validation", "test"), n, strict=True):
        images = torch.randint(256, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)
        splits[name] = Split(images, torch.arange(count) % 2, tuple(f"{name}/{i}" for i in range(count)), 32)
    return ImageDataset("source", ("no", "yes"), splits)


def members(group):
    return [member.id for member in group.members]


def test_clean_data_has_an_empty_report():
    report = audit(make_dataset())
    assert (report.exact, report.near, report.leaks, report.label_conflicts, report.corrupt) == (
        (),
        (),
    ) + ((),) * 3
    assert report.leak_sentences() == []
    assert report.class_counts["train"] == {"no": 10, "yes": 10}
    assert report.usual_nearest < 0.5


def test_exact_duplicates_within_and_across_splits():
    dataset = make_dataset()
    train, test = dataset.splits["train"].images, dataset.splits["test"].images
    train[5] = train[3]
    test[0] = train[2]
    test[4] = train[2]
    report = audit(dataset)
    assert [members(group) for group in report.exact] == [["train/2", "test/0", "test/4"], ["train/3", "train/5"]]
    assert [members(group) for group in report.leaks] == [["train/2", "test/0", "test/4"]]
    assert report.recurring("test", within="train") == 2
    assert report.recurring("train", within="test") == 1
    assert report.recurring("validation", within="train") == 0
    assert report.leak_sentences() == ["2 test images recur in train (as 1 train image)"]
    assert report.n_near == 0


def test_equal_images_with_different_labels_are_conflicts():
    dataset = make_dataset()
    train = dataset.splits["train"].images
    train[5] = train[2]
    train[8] = train[6]
    assert [members(group) for group in audit(dataset).label_conflicts] == [["train/2", "train/5"]]


@pytest.mark.parametrize("change", ["noise", "brightness", "blur"])
def test_near_duplicates_are_found_and_ranked(change):
    dataset = make_dataset()
    smooth = torch.nn.functional.interpolate(
        torch.rand((20, 1, 6, 6), generator=torch.Generator().manual_seed(1)), size=28, mode="bicubic"
    ).clamp(0, 1)
    dataset.splits["train"].images[:] = (255 * smooth).to(torch.uint8)
    original = dataset.splits["train"].images[7].float()
    if change == "noise":
        copy = original + 4 * torch.randn(original.shape, generator=torch.Generator().manual_seed(2))
    elif change == "brightness":
        copy = 0.8 * original + 20
    else:
        copy = torch.nn.functional.avg_pool2d(original, 3, 1, 1, count_include_pad=False)
    dataset.splits["test"].images[3] = copy.clamp(0, 255).to(torch.uint8)
    report = audit(dataset)
    assert report.exact == ()
    assert (report.near[0].first.id, report.near[0].second.id) == ("train/7", "test/3")
    assert report.near[0].correlation >= report.near_threshold
    assert report.n_near == len(report.near) == 1


def test_near_pairs_do_not_depend_on_the_block_and_are_limited(monkeypatch):
    dataset = make_dataset()
    base = dataset.splits["train"].images[0].float()
    noise = torch.randn((8, *base.shape), generator=torch.Generator().manual_seed(0))
    dataset.splits["train"].images[:8] = (base + 3 * noise).clamp(0, 255).to(torch.uint8)
    whole = audit(dataset)
    monkeypatch.setattr(module, "BLOCK", 7)
    assert audit(dataset).near == whole.near
    assert whole.n_near == 28
    limited = audit(dataset, near_limit=5)
    assert limited.near == whole.near[:5]
    assert limited.n_near == 28


def test_flat_images_are_equal_but_never_nearly_so():
    dataset = make_dataset()
    dataset.splits["train"].images[0] = 0
    dataset.splits["train"].images[1] = 255
    dataset.splits["test"].images[0] = 0
    report = audit(dataset)
    assert [members(group) for group in report.leaks] == [["train/0", "test/0"]]
    assert report.n_near == 0


def test_near_search_can_be_left_out():
    report = audit(make_dataset(), near=False)
    assert report.usual_nearest is None
    assert report.near == ()


def test_report_is_json():
    dataset = make_dataset()
    dataset.splits["test"].images[0] = dataset.splits["train"].images[1]
    found = json.loads(json.dumps(audit(dataset, corrupt=["a.png: not a readable image"]).to_dict()))
    assert found["recurring"]["test in train"] == 1
    assert found["leaks"][0]["members"][1] == {"split": "test", "id": "test/0", "class_name": "no"}
    assert found["label_conflicts"] == found["leaks"]
    assert found["corrupt"] == ["a.png: not a readable image"]
    assert found["fingerprint"] == dataset.fingerprint()


def test_dropping_leaks_removes_training_copies_only():
    dataset = make_dataset()
    train = dataset.splits["train"].images
    train[5] = train[3]  # a duplicate within training is no leak
    dataset.splits["test"].images[0] = train[2]
    dataset.splits["validation"].images[1] = train[9]
    dataset.splits["test"].images[7] = dataset.splits["validation"].images[2]
    clean = drop_leaks(dataset, audit(dataset))
    assert set(dataset.splits["train"].ids) - set(clean.splits["train"].ids) == {"train/2", "train/9"}
    assert clean.splits["test"] is dataset.splits["test"]
    after = audit(clean)
    assert after.recurring("train", within="test") == after.recurring("train", within="validation") == 0
    assert len(after.leaks) == 1
    assert drop_leaks(clean, after) is clean


def test_dropping_everything_is_refused():
    dataset = make_dataset((2, 4, 4))
    dataset.splits["test"].images[:2] = dataset.splits["train"].images
    with pytest.raises(InputError, match="the train split is empty"):
        drop_leaks(dataset, audit(dataset))


def test_names_do_not_matter_to_the_search():
    dataset = make_dataset()
    renamed = replace(dataset.splits["test"], ids=dataset.splits["train"].ids[:10])
    assert audit(replace(dataset, splits={**dataset.splits, "test": renamed})).leaks == ()


@pytest.mark.skipif(not (SHARED / "stenosis").is_dir(), reason="../shared/data/stenosis is absent")
def test_public_stenosis_patches():
    dataset = load_dataset(DataSpec(source=f"folder:{SHARED / 'stenosis'}", image_size=32))
    report = audit(dataset)
    assert report.recurring("test", within="train") == 6
    assert report.recurring("validation", within="train") == 4
    assert 247 - sum(len(group.members) - 1 for group in report.exact) == 233
    assert report.n_near == len(report.near) == 31
    clean = drop_leaks(dataset, report)
    assert len(clean.splits["train"]) == 91
    assert not [sentence for sentence in audit(clean).leak_sentences() if "train" in sentence]


@pytest.mark.skipif(not (SHARED / "pneumoniamnist.npz").is_file(), reason="../shared/data/pneumoniamnist.npz is absent")
def test_public_pneumonia_file():
    dataset = load_dataset(DataSpec(source=f"medmnist:{SHARED / 'pneumoniamnist.npz'}", image_size=32))
    report = audit(dataset)
    assert report.recurring("validation", within="train") == 8
    assert report.recurring("test", within="train") == 0
    assert report.n_near == 0
    assert report.usual_nearest < 0.85
