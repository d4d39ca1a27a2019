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


def pretraining_images(spec: ExperimentSpec, own: ImageDataset, console: Console) -> ImageDataset:
    """Load what `[pretrain]` asks for.

    Args:
        spec: The experiment.
        own: Its own images, of which `train` is the source that goes without saying.
        console: Where is said that held-out images are among those of another source.

    Returns:
        With `supervised` the three splits of the source; with `simclr` its training images alone, without labels.

    Raises:
        InputError: They are missing or damaged, or too few.
    """
    chosen = pretrain_spec(spec)
    if chosen.source is None:
        return _without_labels(own.name, own.splits["train"])
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
    _warn_of_leaks(found.splits["train"], own, console)
    return found


def _without_labels(name: str, split: Split) -> ImageDataset:
    if len(split) < 2:
        raise InputError(f"pretraining on {name!r}: SimCLR tells images apart and needs two, not {len(split)}")
    train = replace(split, labels=torch.zeros_like(split.labels))
    return ImageDataset(name, UNLABELLED, {"train": train})


def _warn_of_leaks(pretraining: Split, own: ImageDataset, console: Console) -> None:
    """Say which held-out images of the experiment the CNN would see, without labels or with others."""
    held_out = {name: own.splits[name] for name in ("validation", "test")}
    splits = {"train": replace(pretraining, labels=torch.zeros_like(pretraining.labels)), **held_out}
    for sentence in audit(ImageDataset(own.name, own.class_names, splits), near=False).leak_sentences():
        if " in train " in sentence:
            said = escape(
                sentence.replace(" in train ", " in the images of pretraining ").replace("train image", "one")
            )
            console.print(f"[yellow]warning:[/] {said}", highlight=False, soft_wrap=True)
