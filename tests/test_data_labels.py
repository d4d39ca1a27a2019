"""Few labels: which training images keep theirs."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from qhybrid.data.dataset import Split
from qhybrid.data.labels import labelled_part

COUNTS = (40, 9, 200)


def split(counts: tuple[int, ...] = COUNTS) -> Split:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.from_numpy(np.random.default_rng(1).permutation(len(labels)))]
    images = torch.arange(len(labels), dtype=torch.float32).reshape(-1, 1, 1, 1) / len(labels)
    return Split(images.expand(-1, 1, 2, 2), labels, tuple(str(k) for k in range(len(labels))), 32)


@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.1, 0.25, 0.999])
def test_every_class_keeps_its_share_and_one_image_at_least(fraction: float) -> None:
    kept = labelled_part(split(), fraction, seed=3)
    assert kept.class_counts(3) == tuple(max(1, round(fraction * count)) for count in COUNTS)
    places = [int(name) for name in kept.ids]
    assert places == sorted(places)
    assert torch.equal(kept.images, split().images[places])
    assert torch.equal(kept.labels, split().labels[places])


def test_a_smaller_share_is_part_of_a_larger_one_of_the_same_seed() -> None:
    shares = [set(labelled_part(split(), fraction, seed=5).ids) for fraction in (0.01, 0.05, 0.1, 0.25, 1)]
    assert all(small < large for small, large in pairwise(shares))
    assert shares[3] != set(labelled_part(split(), 0.25, seed=6).ids)
    assert shares[3] == set(labelled_part(split(), 0.25, seed=5).ids)


def test_all_labels_leave_the_split_as_it_is() -> None:
    whole = split()
    assert labelled_part(whole, 1, seed=0) is whole
