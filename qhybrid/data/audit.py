"""What is wrong with a data set before anything is trained on it: leaks, duplicates, conflicts, damaged files."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from qhybrid.data.dataset import ImageDataset, Split, check_dataset, resize

NEAR_SIZE = 24
"""Near duplicates are looked for among images shrunk to this many pixels a side."""
NEAR_THRESHOLD = 0.97
"""Correlation from which two images are called near duplicates.

Measured: none of the 17 million pairs of unequal PneumoniaMNIST images reaches it (the highest is .95); of the
public stenosis patches 31 pairs do: neighbouring frames, and patches beside the same edge of a shutter."""
BLOCK = 1024


@dataclass(frozen=True)
class Member:
    """One image: where it lies and what it is called."""

    split: str
    id: str
    class_name: str


@dataclass(frozen=True)
class DuplicateGroup:
    """Images that are equal pixel for pixel.

    Attributes:
        members: Two or more images, in the order of the splits.
    """

    members: tuple[Member, ...]

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that it lies in, each once."""
        return tuple(dict.fromkeys(member.split for member in self.members))

    @property
    def conflicting(self) -> bool:
        """Whether equal images have different labels."""
        return len({member.class_name for member in self.members}) > 1


@dataclass(frozen=True)
class NearDuplicate:
    """Two images that look alike without being equal."""

    first: Member
    second: Member
    correlation: float


@dataclass(frozen=True)
class AuditReport:
    """What an audit has found.

    Attributes:
        source: The source as the user wrote it.
        fingerprint: Of the data set, see `ImageDataset.fingerprint`.
        class_counts: Split -> class name -> number of images.
        exact: Groups of equal images, within or across splits.
        near: The most alike pairs of unequal images at or above `near_threshold`, most alike first.
        n_near: How many such pairs there are; `near` may list fewer.
        near_threshold: The correlation from which a pair counts.
        usual_nearest: The median image's correlation with the unequal image most like it. Where it comes close to the
            threshold (aligned X-rays of different patients are alike), near duplicates are likely to be false
            alarms. None where near duplicates were not looked for.
        corrupt: One sentence for each file that could not be read.
    """

    source: str
    fingerprint: str
    class_counts: dict[str, dict[str, int]]
    exact: tuple[DuplicateGroup, ...]
    near: tuple[NearDuplicate, ...]
    n_near: int
    near_threshold: float
    usual_nearest: float | None
    corrupt: tuple[str, ...]

    @property
    def leaks(self) -> tuple[DuplicateGroup, ...]:
        """Groups of equal images that lie in more than one split."""
        return tuple(group for group in self.exact if len(group.splits) > 1)

    @property
    def label_conflicts(self) -> tuple[DuplicateGroup, ...]:
        """Groups of equal images with different labels."""
        return tuple(group for group in self.exact if group.conflicting)

    def recurring(self, split: str, *, within: str) -> int:
        """How many images of one split recur, pixel for pixel, in another."""
        return sum(member.split == split for group in self.leaks if within in group.splits for member in group.members)

    def leak_sentences(self) -> list[str]:
        """One sentence for each pair of splits that share images; none where no image recurs."""
        pairs = (("validation", "train"), ("test", "train"), ("test", "validation"))
        sentences = []
        for held_out, other in pairs:
            number = self.recurring(held_out, within=other)
            if number:
                verb = "recurs" if number == 1 else "recur"
                sentences.append(
                    f"{_count(number, f'{held_out} image')} {verb} in {other} "
                    f"(as {_count(self.recurring(other, within=held_out), f'{other} image')})"
                )
        return sentences

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values that JSON can hold."""
        recurring = {
            f"{split} in {within}": self.recurring(split, within=within)
            for split in self.class_counts
            for within in self.class_counts
            if split != within
        }
        return {
            **asdict(self),
            "leaks": [asdict(group) for group in self.leaks],
            "label_conflicts": [asdict(group) for group in self.label_conflicts],
            "recurring": recurring,
        }


def audit(
    dataset: ImageDataset, *, near: bool = True, near_limit: int = 200, corrupt: Sequence[str] = ()
) -> AuditReport:
    """Look for duplicates, leaks and label conflicts.

    Equal images are found by a hash of their pixels. Near duplicates are found by the correlation of images shrunk
    to `NEAR_SIZE`, each with its own mean and then the data set's mean image removed (without the second step every
    two chest X-rays correlate at .8). That finds re-encoded, slightly cropped or neighbouring frames; it also
    raises false alarms, and misses copies that were turned or mirrored. Look at the pairs before removing any.

    Args:
        dataset: All three splits.
        near: Look for near duplicates too; without it, only a hash per image is computed.
        near_limit: How many near pairs to list at most.
        corrupt: What `load_dataset(..., unreadable=...)` has collected.

    Returns:
        The report.
    """
    members = [
        Member(name, id_, dataset.class_names[label])
        for name, split in dataset.splits.items()
        for id_, label in zip(split.ids, split.labels.tolist(), strict=True)
    ]
    hashes = [digest for split in dataset.splits.values() for digest in _hashes(split)]
    groups: dict[str, list[Member]] = {}
    for digest, member in zip(hashes, members, strict=True):
        groups.setdefault(digest, []).append(member)
    pairs: list[NearDuplicate] = []
    n_near = 0
    usual: float | None = None
    if near:
        signatures = _signatures(list(dataset.splits.values()))
        found, n_near, usual = _near_pairs(signatures, hashes, near_limit)
        pairs = [NearDuplicate(members[i], members[j], round(value, 4)) for i, j, value in found]
    return AuditReport(
        source=dataset.name,
        fingerprint=dataset.fingerprint(),
        class_counts=dataset.class_counts(),
        exact=tuple(DuplicateGroup(tuple(group)) for group in groups.values() if len(group) > 1),
        near=tuple(pairs),
        n_near=n_near,
        near_threshold=NEAR_THRESHOLD,
        usual_nearest=usual,
        corrupt=tuple(corrupt),
    )


def drop_leaks(dataset: ImageDataset, report: AuditReport) -> ImageDataset:
    """Remove every training image that recurs, pixel for pixel, in validation or test.

    Validation and test stay as they are, so scores remain comparable with those on the untouched data; an image
    that recurs between these two stays in both.

    Raises:
        InputError: Too little is left to train on.
    """
    leaked = {
        member.id
        for group in report.leaks
        for member in group.members
        if member.split == "train"  # a leak's group lies in another split too
    }
    if not leaked:
        return dataset
    train = dataset.splits["train"]
    kept = [index for index, id_ in enumerate(train.ids) if id_ not in leaked]
    return check_dataset(replace(dataset, splits={**dataset.splits, "train": train.subset(kept)}))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _hashes(split: Split) -> list[str]:
    pixels = split.images.contiguous().numpy()
    shape = f"{pixels.dtype} {pixels.shape[1:]}".encode()
    return [hashlib.blake2b(shape + image.tobytes(), digest_size=16).hexdigest() for image in pixels]


def _signatures(splits: list[Split]) -> Tensor:
    """(N, NEAR_SIZE^2) unit vectors whose products are correlations; zero for an image without structure."""
    small = []
    for split in splits:
        for start in range(0, len(split), BLOCK):
            block = split.images[start : start + BLOCK]
            grey = (block.float() / 255 if block.dtype == torch.uint8 else block).mean(1, keepdim=True)
            small.append(resize(grey, NEAR_SIZE).flatten(1))
    images = torch.cat(small)
    unit = _unit(images - images.mean(1, keepdim=True))
    flat = unit.norm(dim=1, keepdim=True) == 0  # without the mean image these would all look alike
    return _unit((unit - unit.mean(0)) * ~flat)


def _unit(vectors: Tensor) -> Tensor:
    norms = vectors.norm(dim=1, keepdim=True)
    return torch.where(norms > 1e-4, vectors / norms.clamp_min(1e-4), torch.zeros(()))


def _near_pairs(
    signatures: Tensor, hashes: list[str], limit: int
) -> tuple[list[tuple[int, int, float]], int, float | None]:
    """The most alike unequal pairs, how many there are, and the median correlation with the nearest unequal image.

    Never more than a block of correlations is in memory.
    """
    numbers = {digest: number for number, digest in enumerate(dict.fromkeys(hashes))}
    if len(numbers) < 2:
        return [], 0, None
    identity = torch.tensor([numbers[digest] for digest in hashes])
    nearest = torch.full((len(signatures),), -1.0)
    best: list[tuple[int, int, float]] = []
    total = 0
    for top in range(0, len(signatures), BLOCK):
        rows = slice(top, top + BLOCK)
        for left in range(top, len(signatures), BLOCK):
            columns = slice(left, left + BLOCK)
            correlation = signatures[rows] @ signatures[columns].T
            correlation[identity[rows, None] == identity[None, columns]] = -1  # equal images, and an image itself
            nearest[rows] = torch.maximum(nearest[rows], correlation.amax(1))
            nearest[columns] = torch.maximum(nearest[columns], correlation.amax(0))
            alike = correlation >= NEAR_THRESHOLD
            i, j = torch.nonzero(alike.triu(1) if top == left else alike, as_tuple=True)
            total += len(i)
            values, order = torch.sort(correlation[i, j], descending=True)
            i, j = i[order[:limit]] + top, j[order[:limit]] + left
            found = zip(i.tolist(), j.tolist(), values[:limit].tolist(), strict=True)
            best = sorted([*best, *found], key=lambda pair: (-pair[2], pair[:2]))[:limit]
    return best, total, round(float(nearest.median()), 4)
