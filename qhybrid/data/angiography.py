"""Generated coronary angiographies: dark arteries on a bright chest, with and without a stenosis.

Nobody's data: the images are drawn, so they can be shipped, counted and made harder at will, and a score on them
says how a method works, nothing about patients.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qhybrid.data import coronary, radiograph
from qhybrid.data.coronary import Array, Random, Vessel
from qhybrid.data.spec import SPLITS, AngiographySpec

GENERATOR_VERSION = 1
"""Raised whenever equal settings give other images, so that no cache brings the old ones back."""

DEFAULT_SIZE = {"patch": 64, "tree": 224, "crop": 32}
CROPS = 6
"""A crop is cut from a whole view so many times as wide."""


@dataclass(frozen=True)
class Lesion:
    """The narrowing at the region in question: a stenosis in positives, nearly nothing in negatives."""

    severity: float
    length: float
    eccentricity: float


def generate(spec: AngiographySpec) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Generate all three splits.

    Args:
        spec: View, counts, size, difficulty, seed.

    Returns:
        Split name -> images (N, h, w) and labels (N,): first the negatives (0), then the positives (1). Image
        number n of a class and split is the same whatever the counts are.
    """
    splits = {}
    for number, name in enumerate(SPLITS):
        counts = getattr(spec, name)
        keys = [(number, label, index) for label in (0, 1) for index in range(counts[label])]
        images = np.stack([draw(spec, key) for key in keys])
        splits[name] = (images, np.array([label for _, label, _ in keys], dtype=np.int64))
    return splits


def draw(spec: AngiographySpec, key: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Draw one image.

    Args:
        spec: View, size, difficulty, seed.
        key: Number of the split, label, number of the image within both.

    Returns:
        (h, w) grey values, vessels dark.
    """
    rng = np.random.default_rng(np.random.SeedSequence(spec.seed, spawn_key=key))
    size = spec.size or DEFAULT_SIZE[spec.view]
    positive = key[1] == 1
    view = {"patch": _patch, "tree": _tree, "crop": _crop}[spec.view]
    return view(size, rng, spec.difficulty, positive=positive)


def _lesion(rng: Random, difficulty: float, vessel_length: float, *, positive: bool) -> Lesion:
    share = rng.uniform(0.26, 0.44)
    mildest, strongest = (0.75 - 0.3 * difficulty, 0.95) if positive else (0, 0.4 * difficulty)
    severity = rng.uniform(mildest, strongest)
    return Lesion(severity, share * vessel_length, rng.uniform(-0.6, 0.6))


def _patch(size: int, rng: Random, difficulty: float, *, positive: bool) -> NDArray[np.uint8]:
    unit = size / 64
    centre = size / 2 + rng.uniform(-0.19, 0.19, 2) * size
    heading = rng.uniform(0, 2 * np.pi)
    back = coronary.wander(centre, heading + np.pi, 0.75 * size, rng.uniform(-0.6, 0.6), rng)
    forth = coronary.wander(centre, heading, 0.75 * size, rng.uniform(-0.6, 0.6), rng)
    path = np.concatenate([back[:0:-1], forth])
    place = len(back) - 1
    radius, taper = unit * rng.uniform(5, 8), rng.uniform(0.05, 0.2)
    filling = rng.uniform(0.85, 1.0)
    main = coronary.tube(path, (radius * (1 + taper), radius * (1 - taper)), (1.0, filling), rng)
    # A patch shows the middle part of the path: a lesion is drawn against what is in view.
    lesion = _lesion(rng, difficulty, size, positive=positive)
    narrowed = coronary.narrow(main, place, lesion.severity, lesion.length, lesion.eccentricity)
    joined = [narrowed]
    for _ in range(rng.integers(0, 3)):
        away = rng.uniform(0.2, 0.55) * size / coronary.SPACING
        at = int(np.clip(place + rng.choice([-1, 1]) * away, 0, len(path) - 1))
        joined.append(coronary.branch(main, at, int(rng.choice([-1, 1])), rng.uniform(0.5, 1.0) * size, rng))
    iodine = rng.uniform(0.45, 1.0) / (2 * radius)
    depth = iodine * radiograph.thickness(joined, size)
    depth += iodine * radiograph.thickness(_far_vessels(size, unit, rng, difficulty), size)
    if rng.uniform() < 0.12:
        depth += radiograph.catheter_depth(_passing(size, rng), unit * rng.uniform(2.2, 3.2), 0.6, size)
    # The patch is a window on the whole view, about a quarter of it wide.
    field = rng.uniform(0.22, 0.34)
    x, y = _window(size, field, rng.uniform(0.1, 0.9 - field), rng.uniform(0.1, 0.95 - field))
    depth += radiograph.chest(x, y, rng, clutter=0.7 + 0.6 * difficulty) + radiograph.tissue(size, rng)
    return _shown(depth, rng, difficulty, motion=unit * rng.uniform(0.2, 2.2), shutter=0.16)


def _tree(size: int, rng: Random, difficulty: float, *, positive: bool) -> NDArray[np.uint8]:
    vessels, catheter, _ = _arteries(size, rng, difficulty, positive=positive)
    iodine = rng.uniform(1.0, 1.35) / (0.035 * size)
    depth = iodine * radiograph.thickness(vessels, size)
    depth += radiograph.catheter_depth(catheter, 0.0105 * size, 0.95, size)
    x, y = _window(size, 1.0, 0.0, 0.0)
    depth += radiograph.chest(x, y, rng, clutter=0.7 + 0.6 * difficulty) + radiograph.tissue(size, rng)
    return _shown(depth, rng, difficulty, motion=size / 224 * rng.uniform(0.2, 1.6), shutter=0.07)


def _crop(size: int, rng: Random, difficulty: float, *, positive: bool) -> NDArray[np.uint8]:
    """A square cut from a whole view: round the stenosis, or, of a view without one, anywhere, over its edge as well.

    Only what lies in the square is painted.
    """
    whole = CROPS * size
    vessels, catheter, lesion = _arteries(whole, rng, difficulty, positive=positive)
    anywhere, off_centre = rng.uniform(-0.5, CROPS - 0.5, 2) * size, rng.uniform(-0.7, -0.3, 2) * size
    corner = lesion + off_centre if positive else anywhere
    iodine = rng.uniform(0.5, 1.35) / (0.035 * whole)
    depth = iodine * radiograph.thickness([replace(each, points=each.points - corner) for each in vessels], size)
    depth += radiograph.catheter_depth(catheter - corner, 0.0105 * whole, 0.95, size)
    x, y = _window(size, 1 / CROPS, corner[0] / whole, corner[1] / whole)
    depth += radiograph.chest(x, y, rng, clutter=0.7 + 0.6 * difficulty) + radiograph.tissue(size, rng)
    image = _shown(depth, rng, difficulty, motion=whole / 224 * rng.uniform(0.2, 1.6), shutter=0.0)
    covered = (x < 0) | (x > 1) | (y < 0) | (y > 1)  # by the collimator
    image[covered] = rng.integers(4, 16, np.count_nonzero(covered))
    return image


def _arteries(size: int, rng: Random, difficulty: float, *, positive: bool) -> tuple[list[Vessel], Array, Array]:
    """All vessels of a view, its catheter, and the point of the region in question, (2,)."""
    projection = coronary.PROJECTIONS[rng.integers(len(coronary.PROJECTIONS))]
    paths, catheter = coronary.place_projection(projection, size, rng)
    calibre = rng.uniform(0.9, 1.15) * size
    main = [
        coronary.tube(
            path, (course.radius[0] * calibre, course.radius[1] * calibre), (1.0, rng.uniform(0.75, 0.95)), rng
        )
        for path, course in zip(paths, projection.courses, strict=True)
    ]
    branches = [
        b
        for vessel, course in zip(main, projection.courses, strict=True)
        for b in _branches(vessel, course.sides, size, rng)
    ]
    sick = int(rng.choice([i for i, path in enumerate(paths) if len(path) > 0.25 * size / coronary.SPACING]))
    place = int(rng.uniform(0.12, 0.6) * len(paths[sick]))
    lesion = _lesion(rng, difficulty, 0.22 * size, positive=positive)
    main[sick] = coronary.narrow(main[sick], place, lesion.severity, lesion.length, lesion.eccentricity)
    return [*main, *branches], catheter, paths[sick][place]


def _branches(vessel: Vessel, sides: tuple[int, ...], size: int, rng: Random) -> list[Vessel]:
    """Side branches of a course, and the twigs of those."""
    found: list[Vessel] = []
    for number, side in enumerate(sides):
        share = (number + rng.uniform(0.5, 1.1)) / (len(sides) + 0.8)
        at = min(int(share * len(vessel.points)), len(vessel.points) - 2)
        length = rng.uniform(0.22, 0.42) * size * (1.1 - 0.5 * share)
        bough = coronary.branch(vessel, at, side, length, rng, size=(0.55, 0.8))
        found.append(bough)
        for _ in range(rng.integers(1, 4)):
            twig_at = int(rng.uniform(0.25, 0.8) * len(bough.points))
            twig_length = length * rng.uniform(0.3, 0.55)
            found.append(coronary.branch(bough, twig_at, int(rng.choice([-1, 1])), twig_length, rng, size=(0.55, 0.8)))
    return found


def _far_vessels(size: int, unit: float, rng: Random, difficulty: float) -> list[Vessel]:
    """Thin vessels before or behind, which cross the field without joining."""
    vessels = []
    for _ in range(rng.poisson(1 + 2 * difficulty)):
        radius = unit * rng.uniform(0.7, 1.8)
        vessels.append(coronary.tube(_passing(size, rng), (radius, 0.7 * radius), (0.8, 0.6), rng))
    return vessels


def _passing(size: int, rng: Random) -> Array:
    """A path across the field that keeps away from its centre."""
    angle = rng.uniform(0, 2 * math.pi)
    nearest = size / 2 + rng.uniform(0.2, 0.48) * size * np.array([math.cos(angle), math.sin(angle)])
    heading = angle + math.pi / 2
    start = nearest - 0.8 * size * np.array([math.cos(heading), math.sin(heading)])
    return coronary.wander(start, heading, 1.6 * size, rng.uniform(-0.4, 0.4), rng)


def _window(size: int, field: float, left: float, top: float) -> tuple[Array, Array]:
    """Positions of the pixels in units of the whole view."""
    axis = (np.arange(size) + 0.5) / size * field
    x, y = np.meshgrid(left + axis, top + axis)
    return x, y


def _shown(depth: Array, rng: Random, difficulty: float, *, motion: float, shutter: float) -> NDArray[np.uint8]:
    photons = rng.uniform(500, 1500) * 2 ** (1 - 2 * difficulty)
    # The exposure control of the machine keeps the mean brightness of the field.
    image = radiograph.expose(depth - np.median(depth) + 0.4, rng, photons=photons, motion=motion)
    if rng.uniform() < 0.1:
        image = radiograph.collimate(image, rng, share=shutter)
    darkest, brightest = (float(value) for value in np.percentile(image, (1, 99)))
    low, high = min(darkest, 0.3) * rng.uniform(0.5, 0.9), brightest * rng.uniform(1.05, 1.3)
    return radiograph.display(image, low, high, rng.uniform(0.9, 1.15))
