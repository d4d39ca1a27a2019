"""The images that a CNN is pretrained on."""

from dataclasses import replace

import torch
from rich.console import Console
from rich.markup import escape

from qhybrid.data.audit import audit
from qhybrid.data.dataset import ImageDataset, Split
from qhybrid.data.sources import load_dataset
from qhybrid.data.unlabelled import load_unlabelled
from qhybrid.errors import InputError
from qhybrid.experiments.pretrain_spec import unlabelled_folder
from qhybrid.experiments.spec import ExperimentSpec, pretrain_spec

UNLABELLED = ("unlabelled",)


def pretraining_images(spec: ExperimentSpec, own: ImageDataset, console: Console) -> tuple[ImageDataset, list[str]]:
    """Load what `[pretrain]` asks for.

    Args:
        spec: The experiment.
        own: Its own images, of which `train` is the source that goes without saying.
        console: Where is said that held-out images are among those of another source.

    Returns:
        With `supervised` the three splits of the source; with `simclr` its training images alone, without labels. And
        a sentence for each held-out split of the experiment that shares images with another source.

    Raises:
        InputError: They are missing or damaged, or too few.
    """
    chosen = pretrain_spec(spec)
    if chosen.source is None:
        return _without_labels(own.name, own.splits["train"]), []
    folder = unlabelled_folder(chosen.source)
    if folder is not None:
        found = _without_labels(
            chosen.source, load_unlabelled(folder, name=chosen.source, image_size=spec.data.image_size)
        )
    else:
        source = {"source": chosen.source, "angiography": chosen.angiography}
        found = load_dataset(spec.data.model_copy(update=source))
        if chosen.method == "simclr":
            found = _without_labels(found.name, found.splits["train"])
    leaks = _leaks(found.splits["train"], own)
    for sentence in leaks:
        console.print(f"[yellow]warning:[/] {escape(sentence)}", highlight=False, soft_wrap=True)
    return found, leaks


def _without_labels(name: str, split: Split) -> ImageDataset:
    if len(split) < 2:
        raise InputError(f"pretraining on {name!r}: SimCLR tells images apart and needs two, not {len(split)}")
    train = replace(split, labels=torch.zeros_like(split.labels))
    return ImageDataset(name, UNLABELLED, {"train": train})


def _leaks(pretraining: Split, own: ImageDataset) -> list[str]:
    """Which held-out images of the experiment the CNN would see, without labels or with others."""
    held_out = {name: own.splits[name] for name in ("validation", "test")}
    splits = {"train": replace(pretraining, labels=torch.zeros_like(pretraining.labels)), **held_out}
    found = audit(ImageDataset(own.name, own.class_names, splits), near=False)
    counts = {name: found.recurring(name, within="train") for name in held_out}
    return [
        f"{count} {name} image{' recurs' if count == 1 else 's recur'} in the images of pretraining"
        for name, count in counts.items()
        if count
    ]
