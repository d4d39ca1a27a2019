"""From anatomy to an X-ray image: what absorbs, what the detector counts, what the screen shows."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve, gaussian_filter

from qhybrid.data.coronary import Array, Random, Vessel

OVERSAMPLING = 2
"""Vessels are drawn this many times finer than the image and averaged, so that thin ones do not flicker."""


def thickness(vessels: Sequence[Vessel], size: int) -> Array:
    """Contrast medium that a ray crosses, in pixels, for vessels that are joined (no ray counts two of them).

    Args:
        vessels: Tubes with round cross-sections.
        size: Height and width of the image in pixels.

    Returns:
        (size, size).
    """
    fine = size * OVERSAMPLING
    depth = np.zeros(fine * fine)
    for vessel in vessels:
        reach = float(vessel.radius.max()) + 2
        near = np.all((vessel.points > -reach) & (vessel.points < size + reach), axis=1)
        points, radius = vessel.points[near] * OVERSAMPLING, vessel.radius[near] * OVERSAMPLING
        if not len(points):
            continue
        window = int(np.ceil(radius.max())) + 1
        offsets = np.arange(-window, window + 1)
        corner = np.floor(points).astype(np.int64)
        x, y = corner[:, 0, None] + offsets, corner[:, 1, None] + offsets
        # A tube is what spheres along its centreline cover: each point marks the disc of its own sphere.
        square = (
            radius[:, None, None] ** 2
            - (x[:, None, :] + 0.5 - points[:, 0, None, None]) ** 2
            - (y[:, :, None] + 0.5 - points[:, 1, None, None]) ** 2
        )
        inside = (square > 0) & ((x >= 0) & (x < fine))[:, None, :] & ((y >= 0) & (y < fine))[:, :, None]
        chord = 2 * np.sqrt(square[inside]) * np.broadcast_to(vessel.filling[near][:, None, None], square.shape)[inside]
        where = (y[:, :, None] * fine + x[:, None, :])[inside]
        np.maximum.at(depth, where, chord)
    pooled = depth.reshape(size, OVERSAMPLING, size, OVERSAMPLING).mean(axis=(1, 3))
    return np.asarray(pooled / OVERSAMPLING)


def chest(x: Array, y: Array, rng: Random, *, clutter: float) -> Array:
    """What lies before and behind the heart: lungs, heart shadow, spine, ribs, diaphragm.

    Args:
        x: (h, w) horizontal position in units of the whole view, 0 left to 1 right.
        y: (h, w) vertical position, 0 top to 1 bottom.
        rng: Draws the patient.
        clutter: Strength of bones and diaphragm, about 1.

    Returns:
        (h, w) attenuation (an optical depth), from about 0 to 1.
    """
    tilt = rng.normal(0, 0.15, 2)
    depth = tilt[0] * (x - 0.5) + tilt[1] * (y - 0.5)

    heart_x, heart_y = rng.normal(0.53, 0.04), rng.normal(0.56, 0.04)
    wide, high = rng.uniform(0.36, 0.46), rng.uniform(0.36, 0.46)
    distance = np.sqrt(((x - heart_x) / wide) ** 2 + ((y - heart_y) / high) ** 2) - 1
    depth = depth + rng.uniform(0.25, 0.4) * _step(-distance, 0.10)

    spine = rng.choice([rng.uniform(0.08, 0.2), rng.uniform(0.8, 0.95)]) + rng.normal(0, 0.1) * (y - 0.5)
    vertebrae = 1 + 0.18 * np.sin(2 * np.pi * (y * rng.uniform(6, 8) + rng.uniform()))
    depth = depth + clutter * rng.uniform(0.15, 0.3) * np.exp(-np.square(np.square((x - spine) / 0.1))) * vertebrae

    slope, sag = rng.normal(0, 0.45), rng.uniform(0.2, 0.6) * rng.choice([-1, 1])
    first, gap = rng.uniform(-0.15, 0.05), rng.uniform(0.17, 0.24)
    for number in range(7):
        middle = first + gap * number + slope * (x - 0.5) + sag * (x - 0.5) ** 2
        half = rng.uniform(0.028, 0.04)
        across = (y - middle) / half
        # The dense cortex lies along the edges of a rib, so its borders show more than its middle.
        shell = np.exp(-np.square((np.abs(across) - 0.85) / 0.3))
        depth = depth + clutter * rng.uniform(0.04, 0.1) * (
            0.7 * np.exp(-np.square(across) * np.square(np.square(across))) + 0.5 * shell
        )

    dome = rng.uniform(0.76, 0.95) + rng.uniform(0.3, 0.9) * (x - rng.uniform(0.25, 0.75)) ** 2
    return np.asarray(depth + clutter * rng.uniform(0.2, 0.45) * _step(y - dome, 0.009))


def tissue(size: int, rng: Random) -> Array:
    """(size, size) soft-tissue texture, an optical depth of zero mean."""
    texture = np.zeros((size, size))
    for share, weight in ((0.2, 0.07), (0.07, 0.035), (0.022, 0.015)):
        field = gaussian_filter(rng.standard_normal((size, size)), share * size, mode="reflect", truncate=2.5)
        texture += weight * field / max(float(field.std()), 1e-12)
    return texture


def catheter_depth(path: Array, radius: float, filling: float, size: int) -> Array:
    """(size, size) optical depth of a catheter: a radio-opaque wall round a lumen filled with contrast medium."""

    def tube(share: float) -> Array:
        ones = np.ones(len(path))
        return thickness([Vessel(path, share * radius * ones, ones)], size)

    outer, inner = tube(1.0), tube(0.62)
    return (0.5 * (outer - inner) + filling * inner) / (2 * radius)


def expose(depth: Array, rng: Random, *, photons: float, motion: float) -> Array:
    """The image that a detector counts.

    Args:
        depth: (h, w) optical depth.
        rng: Draws the direction of motion and the photons.
        photons: Mean count per pixel where nothing absorbs.
        motion: Length in pixels of the blur by the beating heart.

    Returns:
        (h, w) intensity, about 1 where nothing absorbs: Beer-Lambert with scatter, motion blur, the detector's
        point spread and Poisson noise.
    """
    scatter = 0.18
    primary = np.exp(-depth)
    veil = gaussian_filter(primary, 0.15 * len(depth), mode="reflect", truncate=2.5)
    intensity = (primary + scatter * veil) / (1 + scatter)
    blurred = gaussian_filter(convolve(intensity, _motion_kernel(motion, rng), mode="reflect"), 0.45, mode="reflect")
    counts = rng.poisson(photons * blurred) / photons
    return np.asarray(gaussian_filter(counts, 0.35, mode="reflect"))


def collimate(image: Array, rng: Random, *, share: float) -> Array:
    """Darken what lies outside the lead shutters.

    Args:
        image: (h, w) intensity.
        rng: Draws which sides, and how far each comes in.
        share: Up to what share of the image a shutter reaches.
    """
    height, width = image.shape
    y, x = np.mgrid[0:height, 0:width]
    edges = np.stack([x, width - 1 - x, y, height - 1 - y]) - 0.5
    reach = np.where(rng.uniform(size=4) < 0.35, rng.uniform(0, share, 4), -1.0) * np.array(
        [width, width, height, height]
    )
    open_field = np.prod(_step(edges - reach[:, None, None], 0.6), axis=0)
    return np.asarray(image * (0.12 + 0.88 * open_field))


def display(image: Array, low: float, high: float, gamma: float) -> NDArray[np.uint8]:
    """Map intensities from `low` to `high` to grey values, as the screen of the catheter laboratory does."""
    scaled = np.clip((image - low) / (high - low), 0, 1) ** gamma
    return np.rint(255 * scaled).astype(np.uint8)


def _step(distance: Array, width: float) -> Array:
    """A soft step from 0 to 1, `width` wide."""
    return np.asarray(0.5 * (1 + np.tanh(distance / width)))


def _motion_kernel(length: float, rng: Random) -> Array:
    direction = rng.uniform(0, np.pi)
    half = int(np.ceil(length / 2)) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1))
    for position in np.linspace(-length / 2, length / 2, 4 * half + 1):
        x, y = half + position * np.cos(direction), half + position * np.sin(direction)
        left, top = int(np.floor(x)), int(np.floor(y))
        for row, weight_y in ((top, top + 1 - y), (top + 1, y - top)):
            for column, weight_x in ((left, left + 1 - x), (left + 1, x - left)):
                if weight_x * weight_y > 0:
                    kernel[row, column] += weight_x * weight_y
    return np.asarray(kernel / kernel.sum())
