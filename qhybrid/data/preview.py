"""Pictures of a data set: a contact sheet, and what the augmentor makes of its images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qhybrid.data.augment import compose, diffuse, noise_schedule, transform_geometrically
from qhybrid.data.centres import CentreSplit
from qhybrid.data.dataset import ImageDataset, Split, resize
from qhybrid.data.spec import AugmentSpec
from qhybrid.errors import InputError

COLUMN = 1.05
"""Inches that one picture takes."""


def contact_sheet(dataset: ImageDataset, path: Path, *, per_class: int = 8) -> None:
    """Write a sheet with the first images of each class, one block of rows a split.

    Args:
        dataset: What to show.
        path: The PNG to write; its folder is made.
        per_class: Images per class and split.

    Raises:
        InputError: The file cannot be written.
    """
    rows = [(split, label) for split in dataset.splits for label in range(len(dataset.class_names))]
    counts = dataset.class_counts()
    figure, axes = _grid(len(rows), per_class, title=f"{dataset.name}: first images of each class and split")
    for row, (name, label) in enumerate(rows):
        split, class_name = dataset.splits[name], dataset.class_names[label]
        chosen = torch.nonzero(split.labels == label)[:per_class, 0]
        images = split.batch(chosen)
        for column, image in enumerate(images):
            _show(axes[row, column], image)
        _label(axes[row, 0], f"{name}\n{class_name}\n{counts[name][class_name]} images")
    _save(figure, path)


def augment_sheet(dataset: ImageDataset, spec: AugmentSpec, path: Path, *, seed: int, n_images: int = 8) -> None:
    """Write a sheet with originals above their synthetic variants: one row for each step t, or for each draw.

    The originals are of the smallest training class, the one that is filled up. The noise of a column is the same in
    every row, so that rows differ by the step alone; the brightness is drawn anew for each.

    Args:
        dataset: Its training split is shown.
        spec: The augmentor; `kind` must not be `none`.
        path: The PNG to write; its folder is made.
        seed: Of what is drawn.
        n_images: How many originals.

    Raises:
        InputError: There is no augmentor, or the file cannot be written.
    """
    if spec.kind not in ("diffusion", "geometric"):
        raise InputError(f"augment.kind is {spec.kind!r}: there is nothing to show; allowed: diffusion, geometric")
    split = dataset.splits["train"]
    counts = split.class_counts(len(dataset.class_names))
    smallest = min((count, label) for label, count in enumerate(counts) if count)[1]
    originals = split.batch(torch.nonzero(split.labels == smallest)[:n_images, 0])
    generator = torch.Generator().manual_seed(seed)
    variants = (
        _diffusion_rows(originals, spec, generator)
        if spec.kind == "diffusion"
        else _geometric_rows(originals, spec, generator)
    )
    title = f"{dataset.name}: {spec.kind} variants of class {dataset.class_names[smallest]!r}"
    figure, axes = _grid(1 + len(variants), len(originals), title=title)
    for row, (label, images) in enumerate([("original", originals), *variants]):
        for column, image in enumerate(images):
            _show(axes[row, column], image)
        _label(axes[row, 0], label)
    _save(figure, path)


def image_grid(rows: Sequence[tuple[str, Tensor]], path: Path, *, title: str) -> None:
    """Write a sheet of images that are in memory.

    Args:
        rows: A label and the images of each row, (n, C, S, S) in [0, 1], grey or RGB.
        path: The PNG to write; its folder is made.
        title: Over all of it.

    Raises:
        InputError: The file cannot be written.
    """
    figure, axes = _grid(len(rows), max(len(images) for _, images in rows), title=title)
    for row, (label, images) in enumerate(rows):
        for column, image in enumerate(images):
            _show(axes[row, column], image.expand(3, -1, -1))
        _label(axes[row, 0], label)
    _save(figure, path)


def centres_sheet(dataset: ImageDataset, path: Path, *, n_images: int = 8) -> None:
    """Write a sheet with the same training images as each centre sees them; of real centres with images of their own.

    Args:
        dataset: From `load_centres`, with no centre held out.
        path: The PNG to write; its folder is made.
        n_images: Images a row, of all classes in turn.

    Raises:
        InputError: The file cannot be written.
    """
    split = dataset.splits["train"]
    assert isinstance(split, CentreSplit)
    simulated = split.specs[0].source is None
    rows = [] if not simulated else [("before", resize(_pixels(split, _mixed(split, n_images)), split.image_size))]
    for number, centre in enumerate(split.specs):
        shown = _mixed(split, n_images, None if simulated else number)
        said = ", ".join(f"{name} {strength:g}" for name, strength in centre.strengths.items())
        label = f"{centre.name}\n{said}".replace(", ", "\n").strip()
        rows.append((label, split.seen_in(shown, torch.full_like(shown, number))))
    what = "the same images in each centre" if simulated else "first images of each centre"
    image_grid(rows, path, title=f"{dataset.name}: {what}")


def _mixed(split: Split, n_images: int, centre: int | None = None) -> Tensor:
    """Indices of images of all classes in turn, of one centre or of any."""
    among = torch.arange(len(split))
    if centre is not None:
        assert isinstance(split, CentreSplit)
        among = torch.nonzero(split.centres == centre)[:, 0]
    place = torch.zeros(len(among))
    for label in split.labels.unique():
        members = split.labels[among] == label
        place[members] = torch.arange(int(members.sum())) + label / (1 + split.labels.max())
    return among[place.argsort(stable=True)[:n_images]]


def _pixels(split: Split, indices: Tensor) -> Tensor:
    images = split.images[indices]
    grey = images.float() / 255 if images.dtype == torch.uint8 else images
    return grey.expand(-1, 3, -1, -1)


def _diffusion_rows(originals: Tensor, spec: AugmentSpec, generator: torch.Generator) -> list[tuple[str, Tensor]]:
    # Grey images are three equal channels here: their noise has to be equal too.
    grey = bool((originals == originals[:, :1]).all())
    shape = (len(originals), 1 if grey else 3, *originals.shape[-2:])
    noise = torch.randn(shape, generator=generator).expand(originals.shape)
    sigma = (1 - noise_schedule(spec)).sqrt().tolist()
    first = 1 if spec.include_last_step else 0
    # A long schedule is shown by eight of its steps.
    shown = np.unique(np.linspace(first, first + spec.steps - 1, min(8, spec.steps)).round().astype(int)).tolist()
    rows = []
    for step in shown:
        steps = torch.full((len(originals),), step, dtype=torch.int64)
        noisy = diffuse(originals, steps, noise, spec)
        rows.append((f"t = {step}\nσ = {sigma[step]:.3f}", compose(noisy, _factors(originals, spec, generator), spec)))
    return rows


def _geometric_rows(originals: Tensor, spec: AugmentSpec, generator: torch.Generator) -> list[tuple[str, Tensor]]:
    from qhybrid.data.augment import MAX_TURN

    rows = []
    for draw in range(1, 5):
        degrees = MAX_TURN * (2 * torch.rand(len(originals), generator=generator) - 1)
        flips = torch.rand(len(originals), generator=generator) < 0.5
        factors = _factors(originals, spec, generator)
        rows.append((f"draw {draw}", transform_geometrically(originals, degrees, flips, factors)))
    return rows


def _factors(originals: Tensor, spec: AugmentSpec, generator: torch.Generator) -> Tensor:
    low, high = spec.brightness
    return low + (high - low) * torch.rand(len(originals), generator=generator)


def _grid(rows: int, columns: int, *, title: str) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    margin, head = 1.35, 0.4
    width, height = margin + columns * COLUMN + 0.1, head + rows * COLUMN + 0.08
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw={
            "left": margin / width,
            "right": 1 - 0.1 / width,
            "top": 1 - head / height,
            "bottom": 0.08 / height,
            "wspace": 0.05,
            "hspace": 0.05,
        },
    )
    for axis in axes.flat:
        axis.set_axis_off()
    characters = int(11 * width)  # a long path keeps its end
    title = title if len(title) <= characters else "…" + title[len(title) - characters + 1 :]
    figure.text(0.1 / width, 1 - 0.14 / height, title, ha="left", va="top", fontsize=10, fontweight="bold")
    return figure, axes


def _show(axis: Any, image: Tensor) -> None:
    axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")


def _label(axis: Any, text: str) -> None:
    axis.text(-0.08, 0.5, text, transform=axis.transAxes, ha="right", va="center", fontsize=8)


def _save(figure: Any, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None
