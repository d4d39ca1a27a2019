"""How near synthetic images come to real ones of their class: diffusion, geometric, none, and what an image costs.

Compared are synthetic images made from the training split with real images that no training has seen. Copies of
training images earn nothing by that: `none`, the training images as they are, is what an augmentor has to reach.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from torch import Tensor

from qhybrid.data.augment import synthetic_count, vary
from qhybrid.data.dataset import ImageDataset, Split
from qhybrid.data.spec import AugmentSpec
from qhybrid.errors import InputError, did_you_mean
from qhybrid.experiments.augmentation_measures import Measures, share_of_class
from qhybrid.experiments.generation import Generator
from qhybrid.experiments.generator_kinds import generator_kinds
from qhybrid.experiments.generator_neighbours import neighbours_of
from qhybrid.experiments.image_quality import FeatureSpace, choose_features, feature_space
from qhybrid.experiments.label_fraction import labelled
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.runs import open_run
from qhybrid.experiments.seeding import derive_seed
from qhybrid.experiments.spec import ExperimentSpec
from qhybrid.experiments.study_runs import Trained
from qhybrid.experiments.study_spec import slug
from qhybrid.experiments.synthetic_images import GENERATOR_FILE
from qhybrid.experiments.training_data import load_data
from qhybrid.storage import read_json

KINDS: tuple[str, ...] = ("none", "geometric", "diffusion")
DRAWS = 5
HALVES = 100
"""Halves of the images over which the standard error of KID is taken, over all draws together."""
LIMIT = 100
"""Images of a class: some seconds at 64 pixels."""
FEWEST = 4
"""Images of a class: a half of them has to have a distance."""
HELD_OUT = ("test", "validation")


def augmentation_quality(
    dataset: ImageDataset,
    space: FeatureSpace,
    spec: AugmentSpec,
    *,
    split: str = "test",
    limit: int = LIMIT,
    draws: int = DRAWS,
    seed: int = 0,
    generators: Mapping[str, Generator] | None = None,
    figures: bool = False,
) -> dict[str, Any]:
    """Measure every kind of augmentation with the settings of an experiment.

    For each class, and not only for those that are filled up, N synthetic images are made of training images drawn
    with replacement, the same for every kind, and compared with N held-out images of that class. N is the same for all
    classes and kinds, because FID depends on it: the number of held-out images of the rarest class, at most `limit`.

    Features are not projected on fewer dimensions first: the main directions of real images are not those in which
    noise or blur would show.

    Args:
        dataset: The training and the held-out split.
        space: What images are compared in.
        spec: Settings of the augmentors; the kind is left out.
        split: The held-out split: `test` or `validation`.
        limit: At most this many images of a class.
        draws: How often synthetic images are made anew.
        seed: Of all that is drawn.
        generators: Further kinds, by name: trained generators, which draw images of the classes.
        figures: Draw the samples of each generator beside their nearest training images, into its run folder.

    Returns:
        `features`, the number of images, and for each of `kinds` the `seconds_per_image` (median over the draws, with
        the resizing that `none` needs as well) and `classes` with `mean` beneath: `fid` (mean and standard deviation
        over the draws), `kid` (mean over the draws and standard error, see `kernel_distances_of_halves`), `excess`,
        the KID above that of `none`, in pairs, `precision` and `recall` (see `precision_and_recall`), and `as_asked`,
        the share that the classifier of the features puts into the class asked for; `real_as_asked` is that of
        held-out images. With generators also `neighbours` (see `neighbours_of`; of the first draw).

    Raises:
        InputError: The split is not held out, a class has too few images in it, or a number is too small.
    """
    if split not in HELD_OUT:
        raise InputError(f"split {split!r} is not held out; {did_you_mean(split, HELD_OUT)}")
    if draws < 2 or limit < FEWEST:
        raise InputError(f"draws = {draws}, limit = {limit}: at least 2 draws and {FEWEST} images are needed")
    started = time.perf_counter()
    training, held_out = dataset.splits["train"], dataset.splits[split]
    n_classes = len(dataset.class_names)
    counts = held_out.class_counts(n_classes)
    n = min(limit, *counts)
    if n < FEWEST:
        raise InputError(
            f"the {split} split of {dataset.name!r} has {n} images of class {dataset.class_names[counts.index(n)]!r}; "
            f"at least {FEWEST} are needed to compare synthetic images with them"
        )
    generator = torch.Generator().manual_seed(derive_seed(seed, "augmentation"))
    chosen = [_members(held_out, label)[torch.randperm(count, generator=generator)[:n]]
              for label, count in enumerate(counts)]  # fmt: skip
    real = space.features(held_out.batch(torch.cat(chosen))).reshape(n_classes, n, -1)
    generators = generators or {}
    knows = space.run is not None and space.run.class_names == dataset.class_names
    classifier = space if knows and space.classify is not None else None
    found = {kind: Measures(n_classes) for kind in (*KINDS, *generators)}
    first: dict[str, Tensor] = {}
    for draw in range(draws):
        for kind, measured in found.items():
            seed_of_draw = derive_seed(seed, "augmentation", draw)  # one for all kinds: the same sources
            if kind in generators:
                synthetic, seconds = _generated(generators[kind], n_classes, n, seed_of_draw)
            else:
                synthetic, seconds = _synthetic(training, spec.model_copy(update={"kind": kind}), n, seed_of_draw)
            measured.seconds.append(seconds)
            first.setdefault(kind, synthetic)
            features = space.features(synthetic).reshape(n_classes, n, -1)
            for label in range(n_classes):
                halves = derive_seed(seed, "order", draw, label)
                measured.add(
                    label, real[label], features[label], n_halves=HALVES // draws, seed=halves, space=classifier
                )
    fingerprint = dataset.fingerprint()
    drawn = {name: each.run.path / "figures" / f"nearest-{slug(name)}.png" for name, each in generators.items()}
    drawn = drawn if figures else {}
    return {
        "features": {
            "name": space.name,
            "width": space.width,
            "trained_on_these": space.run is not None and space.run.data["fingerprint"] == fingerprint,
            "trained_with": None if space.run is None else _trained_with(space.run),
        },
        "source": dataset.name,
        "fingerprint": fingerprint,
        "split": split,
        "image_size": training.image_size,
        "images_per_class": n,
        "held_out": dict(zip(dataset.class_names, counts, strict=True)),
        "limit": limit,
        "draws": draws,
        "seed": seed,
        "copies_in_training": _copies(training, held_out),
        "augment": spec.model_dump(mode="json", exclude={"kind"}),
        "kinds": [{"kind": kind, **each.summary(found["none"], dataset.class_names)} for kind, each in found.items()],
        "real_as_asked": None
        if classifier is None
        else {name: share_of_class(classifier, real[label], label) for label, name in enumerate(dataset.class_names)},
        "neighbours": neighbours_of(first, training, space, figures=drawn) if generators else None,
        "seconds": round(time.perf_counter() - started, 2),
    }


def study_augmentation(
    trained: Sequence[Trained], folder: Path, console: Console, *, arms: Mapping[str, Sequence[Trained]] | None = None
) -> dict[str, Any]:
    """Measure augmentation for a study, once, with the first complete run of its reference arm.

    Args:
        trained: What became of the seeds of that arm.
        arms: The same for all arms; their generators, those of the first complete run of each, are measured as well.
        folder: Of the study; what its `study.json` holds of the same run is not measured again.
        console: Where progress goes.

    Returns:
        As `augmentation_quality`, with the `run`; or only why it was `not_measured`, which fails no study.
    """
    complete = [each.path for each in trained if not each.message and each.path is not None]
    if not complete:
        return {"not_measured": "no training of the reference arm is complete"}
    try:
        run = open_run(complete[0])
        name = run.path.relative_to(folder).as_posix()
        before = read_json(folder / "study.json").get("augmentation") if (folder / "study.json").is_file() else None
        generators = _generators_of(arms or {})
        wanted = {arm: str(each.path) for arm, each in generators.items()}
        if before and (before.get("run"), before.get("fingerprint"), before.get("generators", {})) == (
            name,
            run.data["fingerprint"],
            wanted,
        ):
            return dict(before)
        space = feature_space(run, choose_features())
        if space.run is not None:
            space = replace(space, name=f"{run.spec.model.backbone} of {name}")
        found = quality_of_run(run.spec, space, named=generators)
        if found["fingerprint"] != run.data["fingerprint"]:
            return {"not_measured": f"the images of {found['source']!r} have changed since the training"}
    except InputError as error:
        return {"not_measured": str(error)}
    said = f"synthetic images compared with held-out ones in the features of {space.name} ({found['seconds']:.0f} s)"
    console.print(escape(said), highlight=False, soft_wrap=True)
    return {"run": name, "generators": wanted, **found}


def quality_of_run(
    spec: ExperimentSpec,
    space: FeatureSpace,
    *,
    generators: Sequence[Run] = (),
    named: Mapping[str, Run] | None = None,
    noise: Sequence[str] = (),
    shots: int | None = None,
    steps: int | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Load the images of an experiment as a training does, and measure its augmentation.

    Args:
        spec: The experiment.
        space: What images are compared in.
        generators: Runs of generators that are measured as well.
        named: As in `generator_kinds`, like `noise`, `shots` and `steps`.
        noise: See there.
        shots: See there.
        steps: See there.
        settings: As in `augmentation_quality`.

    Raises:
        InputError: As in `augmentation_quality`, or the images cannot be read.
    """
    dataset, _ = load_data(spec, Console(quiet=True))
    kinds = generator_kinds(generators, dataset, noise=noise, shots=shots, steps=steps, named=named)
    found = augmentation_quality(labelled(spec, dataset), space, spec.augment, generators=kinds, **settings)
    return found | {"fingerprint": dataset.fingerprint()}


def _generators_of(arms: Mapping[str, Sequence[Trained]]) -> dict[str, Run]:
    """Arm -> the generator of its first complete run that has one."""
    found = {}
    for arm, several in arms.items():
        complete = [Path(each.path) for each in several if not each.message and each.path is not None]
        if complete and (complete[0] / GENERATOR_FILE).is_file():
            found[arm] = open_run(str(read_json(complete[0] / GENERATOR_FILE)["run"]))
    return found


def _copies(training: Split, held_out: Split) -> int:
    """How many held-out images are in training as well."""
    seen = {image.numpy().tobytes() for image in training.images}
    return sum(image.numpy().tobytes() in seen for image in held_out.images)


def _trained_with(run: Run) -> dict[str, Any] | None:
    """How many synthetic images of each class a run was trained with; None: without any."""
    augment, counts = run.spec.augment, run.data.get("counts", {}).get("train")
    if augment.kind == "none" or not counts:
        return None
    made = {name: synthetic_count(max(counts.values()), count, augment.rho) for name, count in counts.items()}
    return {"kind": augment.kind, "images": made} if any(made.values()) else None


def _members(split: Split, label: int) -> Tensor:
    return torch.nonzero(split.labels == label)[:, 0]


def _generated(generator: Generator, n_classes: int, n: int, seed: int) -> tuple[Tensor, float]:
    """The same of a generator."""
    labels = torch.arange(n_classes).repeat_interleave(n)
    started = time.perf_counter()
    images, _ = generator.images(labels, seed=seed)
    return images, (time.perf_counter() - started) / len(labels)


def _synthetic(training: Split, spec: AugmentSpec, n: int, seed: int) -> tuple[Tensor, float]:
    """n images of each class, class after class, and the seconds that one took."""
    generator = torch.Generator().manual_seed(seed)
    sources = []
    for label in range(len(training.class_counts())):
        members = _members(training, label)
        sources.append(members[torch.randint(len(members), (n,), generator=generator)])
    source = torch.cat(sources)
    started = time.perf_counter()
    images = vary(training, source, spec, generator).images
    return images, (time.perf_counter() - started) / len(source)
