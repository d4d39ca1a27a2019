"""The synthetic training images of a classifier: by the augmentors of the data, or by a generator.

A generator that is not at hand is trained first, on the same training images. It is kept in the cache and found again
by its settings, its images and its seed, so that two trainings that want the same one wait for a single training.
"""

import hashlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import torch
from platformdirs import user_cache_dir
from rich.console import Console
from rich.markup import escape

from qhybrid import catalog
from qhybrid.data.augment import augment, synthetic_count
from qhybrid.data.dataset import ImageDataset, Split
from qhybrid.data.spec import AugmentSpec
from qhybrid.errors import InputError
from qhybrid.experiments.generation import open_generator
from qhybrid.experiments.generator_kinds import KIND, variant
from qhybrid.experiments.latent_training import check_generator, describe_generator, finish_generator, settings_of
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.runs import can_go_on, claim, create_run, list_runs, open_run
from qhybrid.experiments.seeding import derive_seed
from qhybrid.experiments.spec import ExperimentSpec, TrainSpec
from qhybrid.storage import locked, write_json

FOLDER_VARIABLE = "QHYBRID_CACHE"
"""Environment variable that moves the cache."""
GENERATOR_FILE = "generator.json"
"""In the run folder of a classifier: which generator made its synthetic images, and at what cost."""


def synthetic_images(run: Run, dataset: ImageDataset, training: Split, console: Console) -> Split | None:
    """Make the synthetic images that a training is to have.

    Args:
        run: The training; gets `generator.json` where a generator makes them.
        dataset: Its images.
        training: Those of them that are trained with; a generator sees no others, and the validation split.
        console: Where is said that a generator is trained, or that nothing is to be made.

    Returns:
        As `augment`; None where there is nothing to make.
    """
    spec, seed = run.spec.augment, derive_seed(run.spec.train.seed, "augmentation")
    if spec.kind == "none":
        return None
    counts = training.class_counts(len(dataset.class_names))
    made = [synthetic_count(max(counts), count, spec.rho) if count else 0 for count in counts]
    if not any(made):
        console.print(
            f"[yellow]warning:[/] augment.kind = '{spec.kind}' makes no image: every class has at least "
            f"{spec.rho:g} (augment.rho) of the largest; above 1 every class gets some",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
        return None
    if spec.kind != KIND:
        return augment(training, spec, seed=seed)
    shown = replace(dataset, splits={**dataset.splits, "train": training})
    trained = generator_run(run.spec, shown, console)
    generator = open_generator(trained, shown)
    labels = torch.arange(len(made)).repeat_interleave(torch.tensor(made))
    started = time.perf_counter()
    images, n_copies = generator.images(labels, seed=seed)
    seconds = time.perf_counter() - started
    found = {
        "run": str(trained.path.resolve()),
        "quantum": generator.spec.quantum,
        "steps": generator.steps,
        "images": dict(zip(dataset.class_names, made, strict=True)),
        "copies": n_copies,
        "seconds": round(seconds, 3),
        "training_seconds": round(float(trained.training_log()["seconds"].sum()), 2),
    }
    if run.path.is_dir():
        write_json(run.path / GENERATOR_FILE, found)
    width = max(3, len(str(len(labels) - 1)))
    ids = tuple(f"synthetic/{number:0{width}}:generator={trained.path.name}" for number in range(len(labels)))
    return Split(images, labels, ids, training.image_size)


def check_synthetic(spec: ExperimentSpec, dataset: ImageDataset) -> None:
    """Look at all that the user can have got wrong with the generator of an experiment.

    Raises:
        InputError: There is none, it is of other images, or it cannot be trained.
    """
    if spec.augment.kind != KIND:
        return
    if spec.augment.generator is not None:
        open_generator(_given(spec), dataset)
    else:
        check_generator(generator_experiment(spec), dataset)


def generator_experiment(spec: ExperimentSpec) -> ExperimentSpec:
    """The experiment that trains the generator of a classifier's experiment.

    Raises:
        InputError: It has no `[generator]` table.
    """
    settings, quantum = settings_of(spec), spec.augment.quantum
    if quantum is not None:
        settings = type(settings).model_validate(settings.model_dump() | {"quantum": quantum})
    train = TrainSpec(seed=spec.train.seed, accelerator=spec.train.accelerator)
    return ExperimentSpec(
        name="generator",
        data=spec.data.model_copy(update={"transforms": []}),
        augment=AugmentSpec(kind="none"),
        device=spec.device,
        train=train,
        generator=settings,
    )


def generator_run(spec: ExperimentSpec, dataset: ImageDataset, console: Console) -> Run:
    """The complete run of the generator of an experiment: the one that is given, kept, or trained now.

    Args:
        spec: Of the classifier, with augment.kind `latent-diffusion`.
        dataset: Whose training split the generator is trained on.
        console: Where is said what is done.
    """
    if spec.augment.generator is not None:
        return _given(spec)
    wanted = generator_experiment(spec)
    folder = cache_folder() / generator_key(wanted, dataset)
    folder.mkdir(parents=True, exist_ok=True)

    def wait() -> None:
        said = f"another process trains the generator in {folder}: waiting for it"
        console.print(escape(said), highlight=False, soft_wrap=True)

    with locked(folder, wait):
        kept = [run for run in list_runs(folder) if run.state == "complete" or can_go_on(run)]
        run = next((run for run in kept if run.state == "complete"), kept[-1] if kept else None)
        if run is not None and run.state == "complete":
            return run
        what = f"a {variant(settings_of(wanted))} generator is trained first, and kept in {folder}"
        console.print(escape(what), highlight=False, soft_wrap=True)
        model = check_generator(wanted, dataset)
        if run is None:
            run = create_run(wanted, folder)
            describe_generator(run, dataset, model, [])
        with claim(run):
            return finish_generator(run, dataset, model, console)


def generator_key(spec: ExperimentSpec, dataset: ImageDataset) -> str:
    """Names a generator by its settings, circuit, device, images and seed."""
    settings = settings_of(spec)
    told = {
        "generator": settings.model_dump(mode="json"),
        "circuit": catalog.find("circuits", settings.circuit).read_text(encoding="utf-8"),
        "device": spec.device.model_dump(mode="json"),
        "image_size": spec.data.image_size,
        "images": dataset.fingerprint(),
        "seed": spec.train.seed,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def cache_folder() -> Path:
    """Where generators are kept: `QHYBRID_CACHE`, or the user's cache folder."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return (Path(chosen).expanduser() if chosen else Path(user_cache_dir("qhybrid"))) / "generators"


def _given(spec: ExperimentSpec) -> Run:
    run = open_run(str(spec.augment.generator))
    if not run.spec.trains_generator:
        raise InputError(f"augment.generator: run {str(run.path)!r} is of a classifier, not of a generator")
    if spec.augment.quantum is not None and bool(settings_of(run.spec).quantum) != spec.augment.quantum:
        raise InputError(
            f"augment.quantum is {str(spec.augment.quantum).lower()}, but the generator {str(run.path)!r} is "
            f"{variant(settings_of(run.spec))}"
        )
    return run
