"""Pretrain the CNN of an experiment, once for the same settings, images and seed.

A folder `<root>/<hash>/` holds `config.toml`, `environment.json`, `metrics.csv` and at the end `pretraining.json` and
`backbone.safetensors`, which `model.weights` takes.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape

from qhybrid.data.dataset import ImageDataset
from qhybrid.data.transforms import training_transforms
from qhybrid.errors import InputError, Interrupted
from qhybrid.experiments.backbones import build_backbone, normalisation, write_backbone
from qhybrid.experiments.batches import TrainingImages, split_loader, training_loader
from qhybrid.experiments.checkpoints import read_checkpoint
from qhybrid.experiments.contrastive_module import ContrastiveModule
from qhybrid.experiments.contrastive_views import ContrastiveImages, check_lightly, contrastive_loader, view_transform
from qhybrid.experiments.environment import describe_environment
from qhybrid.experiments.model import build_classifier
from qhybrid.experiments.pretraining_images import pretraining_images
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.runs import is_stop
from qhybrid.experiments.seeding import derive_seed
from qhybrid.experiments.spec import ExperimentSpec, TrainSpec, experiment_toml, pretrain_spec
from qhybrid.experiments.trainer import check_available, fit
from qhybrid.experiments.training_module import Diverged, TrainingModule
from qhybrid.storage import locked, read_json, write_json, write_text

FORMAT = 1
"""Of what is computed; another one pretrains anew."""


@dataclass(frozen=True)
class Pretrained:
    """A CNN that has been pretrained."""

    path: Path
    """Its folder."""

    @property
    def weights(self) -> Path:
        """The file for `model.weights`."""
        return self.path / "backbone.safetensors"

    @property
    def description(self) -> dict[str, Any]:
        """What `pretraining.json` says: method, source, images, leaks, epochs, seed, sha256 of the weights."""
        return read_json(self.path / "pretraining.json")

    def told(self) -> dict[str, Any]:
        """What a run that starts from it says of it in its `data.json`."""
        keys = ("method", "source", "n_images", "epochs", "leaks", "sha256")
        return {"path": str(self.path.resolve())} | {key: self.description[key] for key in keys}


def pretrained_root(out: Path, name: str) -> Path:
    """Where the pretrained CNNs of an experiment are: beside the folder of all runs or studies.

    Args:
        out: That folder, such as `runs` or `studies`.
        name: Of the experiment.
    """
    return out.parent / "pretrained" / name


def first_weights(run: Run) -> Pretrained | None:
    """Where a run that goes on takes its pretrained weights from; None: it has none, or a checkpoint, which has all."""
    if run.last_checkpoint.is_file() or not (run.path / "data.json").is_file():
        return None  # of several processes only the first one has the file, and Lightning gives all its weights
    described = run.data.get("pretrained")
    return None if described is None else Pretrained(Path(described["path"]))


def check_pretraining(spec: ExperimentSpec, own: ImageDataset, console: Console) -> tuple[ImageDataset, list[str]]:
    """Look at all that the user can have got wrong.

    Returns:
        As `pretraining_images`.

    Raises:
        InputError: lightly is missing, or the images are.
    """
    if pretrain_spec(spec).method == "simclr":
        check_lightly()
    check_available(_training(spec))
    return pretraining_images(spec, own, console)


def pretrain(spec: ExperimentSpec, own: ImageDataset, *, root: Path, console: Console | None = None) -> Pretrained:
    """Pretrain the CNN of an experiment, or go on with it, or find it.

    It starts from the weights that a training from scratch would start from, and images are normalised as there. Two
    processes can ask for the same: one waits for the other.

    Args:
        spec: The experiment; its `train.seed` draws everything.
        own: Its images.
        root: The folder is `<root>/<hash>/`.
        console: Where progress and warnings go; None: standard error.

    Returns:
        Where it is.

    Raises:
        InputError: As in `check_pretraining`, or the folder cannot be made.
        Interrupted: By the user; the same call goes on.
    """
    console = console or Console(stderr=True)
    images, leaks = check_pretraining(spec, own, console)
    depends_on = _depends_on(spec, images)
    key = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:8]
    found = Pretrained(root / key)
    try:
        found.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make a folder under {str(root)!r} ({error.strerror})") from None

    def wait() -> None:
        said = f"another process is at {found.path}: waiting for it"
        console.print(escape(said), highlight=False, soft_wrap=True)

    with locked(found.path, wait):
        if not found.weights.is_file():
            noted = {"leaks": leaks, "depends_on": depends_on}
            _complete(spec, images, found, noted, console)
    return found


def _depends_on(spec: ExperimentSpec, images: ImageDataset) -> dict[str, Any]:
    """All that the weights depend on."""
    return {
        "format": FORMAT,
        "backbone": spec.model.backbone,
        "image_size": spec.data.image_size,
        "transforms": spec.data.transforms,
        "pretrain": pretrain_spec(spec).model_dump(mode="json", exclude={"source", "angiography"}),
        "images": images.fingerprint(),
        "seed": spec.train.seed,
        "betas": spec.train.betas,
    }


def _training(spec: ExperimentSpec) -> TrainSpec:
    """The `[train]` table of the pretraining, in one process."""
    chosen = pretrain_spec(spec)
    own = ("epochs", "batch_size", "learning_rate", "schedule", "weight_penalty")
    settings = {key: getattr(chosen, key) for key in own}
    alone = {"patience": 0, "devices": 1, "nodes": 1, "strategy": "auto", "loggers": ["csv"], "noise_scale": (1.0, 1.0)}
    return spec.train.model_copy(update=settings | alone)


def _complete(
    spec: ExperimentSpec, images: ImageDataset, found: Pretrained, noted: dict[str, Any], console: Console
) -> None:
    """Train from the start or from the last checkpoint, then write the weights."""
    write_text(found.path / "config.toml", experiment_toml(spec.model_copy(update={"study": None})))
    write_json(found.path / "environment.json", describe_environment(seed=spec.train.seed))
    chosen = pretrain_spec(spec)
    count = len(images.splits["train"])
    said = f"pretraining by {chosen.method} on {count} images of {images.name!r} in {found.path}"
    console.print(escape(said), highlight=False, soft_wrap=True)
    run = Run(found.path, spec.model_copy(update={"train": _training(spec), "study": None}))
    train = _contrastive if chosen.method == "simclr" else _supervised
    try:
        cnn = train(run, images, console)
    except BaseException as error:
        if is_stop(error):
            raise Interrupted(f"interrupted; the same command goes on with {str(found.path)!r}") from None
        raise
    normalised_by = normalisation("none")
    log = run.training_log()
    partial_file = found.path / "backbone.partial.safetensors"
    write_backbone(spec.model.backbone, cnn, partial_file, normalised_by)
    write_json(
        found.path / "pretraining.json",
        {
            "method": chosen.method,
            "source": images.name,
            "n_images": count,
            "epochs": len(log["epoch"]),
            "train_loss": float(log["train_loss"][-1]),
            "seconds": round(float(log["seconds"].sum()), 2),
            "seed": spec.train.seed,
            "sha256": hashlib.sha256(partial_file.read_bytes()).hexdigest(),
            **noted,
        },
    )
    partial_file.replace(found.weights)  # last: where it is, all else is
    shutil.rmtree(found.path / "checkpoints", ignore_errors=True)


def _contrastive(run: Run, images: ImageDataset, console: Console) -> torch.nn.Module:
    """SimCLR; returns the CNN after the last epoch."""
    spec, chosen = run.spec, pretrain_spec(run.spec)
    view = view_transform(chosen, spec.data.transforms, spec.data.image_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(spec.train.seed, "backbone"))  # that of a training from scratch
        cnn, width = build_backbone(spec.model.backbone, "none")
        torch.manual_seed(derive_seed(spec.train.seed, "pretraining", 0))
        module = ContrastiveModule(cnn, width, normalisation("none"), chosen, spec.train)
    views = ContrastiveImages(images.splits["train"], view, spec.train.seed)
    loader = contrastive_loader(views, batch_size=chosen.batch_size, workers=spec.train.workers)
    fit(run, module, loader, None, console=console)
    module.load_state_dict(read_checkpoint(run.last_checkpoint)["state_dict"])
    return module.cnn


def _supervised(run: Run, images: ImageDataset, console: Console) -> torch.nn.Module:
    """The labels of other images and a linear head; returns the CNN of the epoch with the lowest validation loss."""
    spec = run.spec
    model_spec = spec.model.model_copy(update={"head": "linear", "weights": "none"})
    classifier = build_classifier(
        model_spec,
        n_classes=len(images.class_names),
        circuit=spec.model.circuit,
        device=spec.device,
        seed=spec.train.seed,
    )
    module = TrainingModule(classifier, spec.train)
    transform = training_transforms(spec.data.transforms)
    training = TrainingImages([images.splits["train"]], transform, derive_seed(spec.train.seed, "pretraining", 1))
    workers = spec.train.workers
    try:
        fit(
            run,
            module,
            training_loader(training, batch_size=spec.train.batch_size, workers=workers),
            split_loader(images.splits["validation"], batch_size=64, workers=workers),
            console=console,
        )
    except Diverged as error:
        raise Diverged(str(error).replace("training", "pretraining").replace("train.", "pretrain.")) from None
    module.load_state_dict(read_checkpoint(run.best_checkpoint)["state_dict"])
    return classifier.cnn
