"""One run folder: what is in it, and how it is read back."""

import csv
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from qhybrid import catalog
from qhybrid.data.partition import stratified_draw
from qhybrid.data.spec import SPLITS
from qhybrid.errors import InputError, did_you_mean
from qhybrid.experiments.spec import DeviceChoice, ExperimentSpec
from qhybrid.storage import read_arrays, read_json, write_arrays, write_json

if TYPE_CHECKING:
    from qhybrid.experiments.heads import ClassifierHead
    from qhybrid.experiments.model import HybridClassifier

State = Literal["running", "complete", "failed"]


@dataclass(frozen=True)
class Features:
    """What the backbone made of the images of one split."""

    features: NDArray[np.float32]
    """(N, F), the input of the head."""
    labels: NDArray[np.int64]
    """(N,)"""
    ids: NDArray[np.str_]
    """(N,), the name of each image."""

    def drawn(self, size: int, *, seed: int) -> "Features":
        """Some of them, in their order, drawn so that every class keeps its share as nearly as it can.

        Args:
            size: How many; more than there are: all.
            seed: Of the draw.
        """
        kept = stratified_draw(self.labels, size, seed=seed)
        return Features(self.features[kept], self.labels[kept], self.ids[kept])


@dataclass(frozen=True)
class Run:
    """One run folder. `open_run` and `create_run` make it."""

    path: Path
    spec: ExperimentSpec

    @property
    def status(self) -> dict[str, Any]:
        """What `status.json` says: state, created, updated, message."""
        return read_json(self.path / "status.json")

    @property
    def state(self) -> State:
        """`complete` once the model and the features of every split are there."""
        state = self.status.get("state")
        if state not in ("running", "complete", "failed"):
            raise InputError(f"{self.path / 'status.json'}: damaged, state is {state!r}")
        return state  # type: ignore[no-any-return]

    @cached_property
    def data(self) -> dict[str, Any]:
        """What `data.json` says: source, fingerprint, class_names, counts, leaks, parameters, noise."""
        path = self.path / "data.json"
        values = read_json(path)
        for key in ("source", "fingerprint", "class_names"):
            if key not in values:
                raise InputError(f"{path}: damaged, has no key {key!r}")
        return values

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per label."""
        return tuple(self.data["class_names"])

    @property
    def last_checkpoint(self) -> Path:
        """Last state of the training, for resuming: after an epoch, on a device that sends jobs after a step."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def best_checkpoint(self) -> Path:
        """State of the epoch with the lowest validation loss."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def circuit(self) -> str:
        """The run's own copy of its circuit: later edits of the catalog must not change what was trained."""
        for copy in sorted((self.path / "circuits").glob("*")):
            if copy.suffix in catalog.SUFFIXES["circuits"]:
                return str(copy)
        return self.spec.model.circuit

    @property
    def generator_circuit(self) -> str | None:
        """The copy of the circuit of a generator; None: it has none yet."""
        return self.circuit if any((self.path / "circuits").glob("*")) else None

    def check_classifier(self) -> None:
        """Raise InputError where the run is of a generator."""
        if self.spec.trains_generator:
            raise InputError(
                f"run {str(self.path)!r} is of a generator and has no classifier; `qhybrid generate` takes it"
            )

    def set_state(self, state: State, message: str = "") -> None:
        """Write `status.json`."""
        created = self.status["created"] if (self.path / "status.json").exists() else _now()
        write_json(
            self.path / "status.json",
            {"state": state, "created": created, "updated": _now(), "message": message},
        )

    def write_features(self, split: str, features: Features) -> None:
        """Write `features/<split>.npz`."""
        write_arrays(
            self.path / "features" / f"{split}.npz",
            {"features": features.features, "labels": features.labels, "ids": features.ids},
        )

    def features(self, split: str) -> Features:
        """Read the backbone's features of a split.

        Args:
            split: `train`, `validation` or `test`.

        Raises:
            InputError: There is no such split, or the file is missing or damaged.
        """
        self.check_classifier()
        if split not in SPLITS:
            raise InputError(f"unknown split {split!r}; {did_you_mean(split, SPLITS)}")
        path = self.path / "features" / f"{split}.npz"
        arrays = read_arrays(path, ("features", "labels", "ids"))
        features, labels, ids = arrays["features"], arrays["labels"], arrays["ids"]
        width, n_classes = self.spec.model.feature_dim, len(self.class_names)
        if features.ndim != 2 or features.shape[1] != width or features.dtype != np.float32:
            raise InputError(
                f"{path}: damaged, features are {features.dtype} {features.shape}, not float32 (N, {width})"
            )
        if labels.shape != features.shape[:1] or ids.shape != labels.shape or labels.dtype != np.int64:
            counts = f"{len(features)} features, {len(labels)} labels, {len(ids)} ids"
            raise InputError(f"{path}: damaged, {counts}")
        if not np.isfinite(features).all():
            raise InputError(f"{path}: damaged, features hold values that are not finite")
        if len(labels) == 0 or labels.min() < 0 or labels.max() >= n_classes:
            raise InputError(f"{path}: damaged, labels must run from 0 to {n_classes - 1}")
        return Features(features, labels, ids)

    def load_model(self, device: DeviceChoice | None = None) -> "HybridClassifier":
        """Load the trained classifier, in evaluation mode.

        Args:
            device: What runs its quantum layer; None: the device of the training.

        Raises:
            InputError: `model.safetensors` is missing, damaged or does not fit; or the device is wrong.
        """
        from qhybrid.experiments.model import build_classifier, load_weights

        self.check_classifier()
        model = build_classifier(
            # The first weights are of no use here, and their file may be gone.
            self.spec.model.model_copy(update={"weights": "none"}),
            n_classes=len(self.class_names),
            circuit=self.circuit,
            device=device or self.spec.device,
        )
        return load_weights(model, self.path / "model.safetensors").eval()

    def load_head(self, device: DeviceChoice | None = None, *, seed: int = 0) -> "ClassifierHead":
        """Load the trained head alone, which turns stored features into logits; in evaluation mode.

        Args:
            device: What runs its quantum layer; None: the device of the training.
            seed: Seed of the shots.

        Raises:
            InputError: As in `load_model`.
        """
        from qhybrid.experiments.heads import build_head
        from qhybrid.experiments.model import load_weights

        self.check_classifier()
        head = build_head(
            self.spec.model,
            n_classes=len(self.class_names),
            circuit=self.circuit,
            device=device or self.spec.device,
            seed=seed,
        )
        return load_weights(head, self.path / "model.safetensors", prefix="head.").eval()

    def training_log(self) -> dict[str, NDArray[np.float64]]:
        """Read `metrics.csv`: column name -> one value an epoch.

        Raises:
            InputError: The file is missing or damaged.
        """
        path = self.path / "metrics.csv"
        try:
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            return {name: np.array([float(row[name]) for row in rows]) for name in (rows[0] if rows else ())}
        except (OSError, TypeError, ValueError, csv.Error) as error:
            raise InputError(f"{path}: missing or damaged ({error})") from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
