"""Coronary arteries as curves with a radius: paths, taper, branches, stenoses, and the trees of two arteries.

Points are (n, 2) in pixels, x to the right and y down, about `SPACING` apart.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

Array = NDArray[np.float64]
Random = np.random.Generator

SPACING = 0.7
"""Pixels between neighbouring points of a path."""


@dataclass(frozen=True)
class Vessel:
    """A tube of contrast medium.

    Attributes:
        points: (n, 2) centreline in pixels.
        radius: (n,) in pixels.
        filling: (n,) concentration of the contrast medium, 1 where it is full.
    """

    points: Array
    radius: Array
    filling: Array


def spline(controls: Array) -> Array:
    """A cubic spline through control points, sampled evenly along its length."""
    chord = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(controls, axis=0), axis=1))])
    fine = CubicSpline(chord, controls)(np.linspace(0, chord[-1], 40 * len(controls)))
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(fine, axis=0), axis=1))])
    even = np.linspace(0, length[-1], max(4, round(length[-1] / SPACING)))
    return np.stack([np.interp(even, length, fine[:, axis]) for axis in (0, 1)], axis=1)


def winding(points: Array, amplitude: float, rng: Random) -> Array:
    """Let a path wind about its course by up to about `amplitude` pixels; its ends stay where they are."""
    along = np.linspace(0, 1, len(points))
    waves = np.zeros(len(points))
    for number in (3, 4, 5, 7, 9):
        waves += rng.uniform(-1, 1) * np.sin(np.pi * number * along) / np.sqrt(number)
    direction = headings(points)
    normal = np.stack([-np.sin(direction), np.cos(direction)], axis=1)
    return np.asarray(points + amplitude * waves[:, None] * normal)


def wander(start: Array, heading: float, length: float, bend: float, rng: Random) -> Array:
    """A path that sets out in a direction, bends steadily and winds a little.

    Args:
        start: (2,) where it begins.
        heading: Direction in radians.
        length: In pixels.
        bend: By how much the direction has changed at the end, radians.
        rng: For the winding.
    """
    along = np.linspace(0, 1, max(4, round(length / SPACING)))
    direction = heading + bend * along
    for waves, amplitude in ((1.3, 0.22), (2.9, 0.12)):
        phase, size = rng.uniform(0, 2 * np.pi), amplitude * rng.uniform(0.4, 1.0)
        direction = direction + size * (np.sin(2 * np.pi * waves * along + phase) - np.sin(phase))
    steps = np.stack([np.cos(direction), np.sin(direction)], axis=1) * (length / len(along))
    return np.asarray(start + np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)[:-1]]))


def tube(points: Array, radius: tuple[float, float], filling: tuple[float, float], rng: Random) -> Vessel:
    """A vessel that tapers from one radius to another, its wall a little uneven, its contrast thinning out."""
    along = np.linspace(0, 1, len(points))
    uneven = sum(
        rng.uniform(0.005, 0.02) * np.sin(2 * np.pi * (waves * along + rng.uniform())) for waves in (1.7, 3.4, 6.1)
    )
    taper = radius[0] + (radius[1] - radius[0]) * along
    return Vessel(points, taper * (1 + uneven), filling[0] + (filling[1] - filling[0]) * along)


def headings(points: Array) -> Array:
    """(n,) direction of a path at each of its points, radians."""
    tangent = np.gradient(points, axis=0)
    return np.arctan2(tangent[:, 1], tangent[:, 0])


def narrow(vessel: Vessel, place: int, severity: float, length: float, eccentricity: float) -> Vessel:
    """Narrow a vessel: the plaque takes a share of the diameter and pushes the lumen to one side.

    Args:
        vessel: The healthy vessel.
        place: Index of the point where it is narrowest.
        severity: Share of the diameter that is lost there, 0 to 1.
        length: Length of the lesion in pixels (its flanks included).
        eccentricity: -1 and 1 put the whole plaque on one wall, 0 shares it between both.
    """
    distance = SPACING * (np.arange(len(vessel.points)) - place) / (length / 2)
    loss = severity * np.exp(-(np.abs(1.35 * distance) ** 2.6))
    direction = headings(vessel.points)
    normal = np.stack([-np.sin(direction), np.cos(direction)], axis=1)
    shift = (eccentricity * vessel.radius * loss)[:, None] * normal
    return replace(vessel, points=vessel.points + shift, radius=vessel.radius * (1 - loss))


def branch(
    parent: Vessel, place: int, side: int, length: float, rng: Random, *, size: tuple[float, float] = (0.45, 0.7)
) -> Vessel:
    """A branch that leaves its parent at an acute angle and tapers out.

    Args:
        parent: The vessel it leaves.
        place: Index of the parent's point.
        side: 1 or -1.
        length: In pixels.
        rng: For angle, bend and radius.
        size: Range of its first radius, as a share of the parent's there.
    """
    angle = headings(parent.points)[place] + side * np.deg2rad(rng.uniform(30, 65))
    points = wander(parent.points[place], angle, length, -side * rng.uniform(-0.2, 0.9), rng)
    start = float(parent.radius[place]) * rng.uniform(*size)
    filling = float(parent.filling[place])
    return tube(points, (start, start * rng.uniform(0.35, 0.55)), (filling, filling * rng.uniform(0.7, 0.95)), rng)


@dataclass(frozen=True)
class Course:
    """The usual course of one epicardial artery in a projection, in units of the view.

    Attributes:
        controls: Control points of its spline; a first point shared with another course is its origin.
        radius: At the start and at the end, in units of the view.
        sides: On which sides branches leave it (1 is to the right of the direction of flow).
    """

    controls: tuple[tuple[float, float], ...]
    radius: tuple[float, float]
    sides: tuple[int, ...]


@dataclass(frozen=True)
class Projection:
    """An artery as a projection shows it: its courses, and the catheter in its ostium."""

    courses: tuple[Course, ...]
    catheter: tuple[tuple[float, float], ...]


LEFT_RAO_CAUDAL = Projection(
    courses=(
        Course(((0.27, 0.25), (0.33, 0.265), (0.39, 0.28)), (0.0185, 0.0175), ()),
        Course(
            ((0.39, 0.28), (0.50, 0.25), (0.62, 0.29), (0.73, 0.40), (0.81, 0.55), (0.85, 0.70), (0.82, 0.79)),
            (0.0155, 0.005),
            (1, 1, 1, -1),
        ),
        Course(
            ((0.39, 0.28), (0.40, 0.39), (0.42, 0.51), (0.47, 0.64), (0.53, 0.75), (0.60, 0.84)),
            (0.0145, 0.005),
            (-1, -1, -1),
        ),
    ),
    catheter=((0.36, -0.06), (0.31, 0.05), (0.235, 0.15), (0.225, 0.215), (0.27, 0.25)),
)
LEFT_LAO_CRANIAL = Projection(
    courses=(
        Course(((0.36, 0.20), (0.42, 0.185), (0.47, 0.20)), (0.0185, 0.0175), ()),
        Course(
            ((0.47, 0.20), (0.47, 0.33), (0.43, 0.46), (0.43, 0.60), (0.47, 0.73), (0.50, 0.86)),
            (0.0155, 0.005),
            (1, 1, -1, -1),
        ),
        Course(
            ((0.47, 0.20), (0.59, 0.24), (0.69, 0.34), (0.74, 0.48), (0.73, 0.62), (0.68, 0.73)),
            (0.0145, 0.005),
            (1, 1, -1),
        ),
    ),
    catheter=((0.40, -0.06), (0.35, 0.03), (0.31, 0.11), (0.31, 0.17), (0.36, 0.20)),
)
RIGHT_LAO = Projection(
    courses=(
        Course(
            ((0.54, 0.23), (0.44, 0.19), (0.34, 0.25), (0.28, 0.38), (0.28, 0.53), (0.35, 0.67), (0.48, 0.74)),
            (0.0180, 0.0125),
            (-1, 1, 1),
        ),
        Course(((0.48, 0.74), (0.58, 0.80), (0.67, 0.85), (0.78, 0.87)), (0.0100, 0.004), (-1,)),
        Course(((0.48, 0.74), (0.56, 0.70), (0.66, 0.69), (0.75, 0.74), (0.80, 0.81)), (0.0105, 0.004), (1, -1)),
    ),
    catheter=((0.60, -0.06), (0.63, 0.05), (0.645, 0.15), (0.61, 0.225), (0.54, 0.23)),
)
PROJECTIONS = (LEFT_RAO_CAUDAL, LEFT_LAO_CRANIAL, RIGHT_LAO)


def place_projection(projection: Projection, size: int, rng: Random) -> tuple[list[Array], Array]:
    """Turn, scale, shift and disturb the courses of a projection.

    Returns:
        One path in pixels for each course, joined where the courses join, and the catheter's.
    """
    turn, scale = np.deg2rad(rng.uniform(-10, 10)), rng.uniform(0.92, 1.1)
    stretch = np.array([rng.uniform(0.9, 1.1), rng.uniform(0.9, 1.1)])
    rotation = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shift = rng.uniform(-0.03, 0.03, 2)
    moved: dict[tuple[float, float], Array] = {}

    def put(point: tuple[float, float], jitter: float) -> Array:
        if point not in moved:  # courses that share a point share what happens to it
            centred = (np.array(point) + rng.normal(0, jitter, 2) - 0.5) * stretch
            moved[point] = size * (rotation @ centred + 0.5 + shift)
        return moved[point]

    splines = [spline(np.stack([put(point, 0.014) for point in course.controls])) for course in projection.courses]
    # A short course (the left main stem) winds less, or it would look knotted.
    paths = [winding(path, min(0.006 * size, 0.015 * SPACING * len(path)), rng) for path in splines]
    return paths, spline(np.stack([put(point, 0.006) for point in projection.catheter]))
