"""The predictions of a leave-one-centre-out study: of each part, adapted at test, on devices, and all together."""

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch.nn.modules.batchnorm import _BatchNorm

from qhybrid.data.centres_spec import TestTimeSpec
from qhybrid.errors import InputError
from qhybrid.experiments.adapted_evaluation import evaluate_adapted
from qhybrid.experiments.backbones import build_backbone
from qhybrid.experiments.device_choice import DeviceOptions
from qhybrid.experiments.grid import Cell
from qhybrid.experiments.runs import open_run
from qhybrid.experiments.spec import Backbone
from qhybrid.experiments.study_results import Predicted
from qhybrid.experiments.study_runs import SPLIT, Trained
from qhybrid.experiments.study_tests import Labels, Probabilities
from qhybrid.experiments.tent import adapt_to_images
from qhybrid.storage import read_arrays, read_json, write_json


@dataclass(frozen=True)
class Part:
    """The study in which one centre is held out."""

    name: str
    """Such as `without-B`."""
    path: Path
    results: dict[str, Any]
    """Its `study.json`."""

    def trained(self, arm: str) -> list[Trained]:
        """What became of each seed of an arm."""
        rows = next(each["runs"] for each in self.results["arms"] if each["name"] == arm)
        return [
            Trained(
                arm,
                row["seed"],
                None if row["run"] is None else str(self.path / row["run"]),
                row["message"],
                {"head": row.get("evaluation", "")},
            )
            for row in rows
        ]

    def samples(self) -> tuple[Labels, NDArray[np.str_]] | None:
        """Labels and ids of its test images; None where no training is complete."""
        for arm in self.results["arms"]:
            for each in self.trained(arm["name"]):
                if not each.message:
                    arrays = each.predictions()
                    return arrays["labels"], arrays["ids"]
        return None


@dataclass(frozen=True)
class AdaptTask:
    """A run that is adapted to its test images, and evaluated as it was trained and under conditions."""

    run: str
    spec: TestTimeSpec
    seed: int
    cells: tuple[Cell, ...]
    """Only where it has a circuit."""

    @property
    def file(self) -> Path:
        """Where the names of its evaluations are kept."""
        depends = [self.spec.model_dump(), self.seed, [cell.to_dict() for cell in self.cells]]
        key = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:16]
        return Path(self.run) / "adapted" / f"{key}.json"


def adapt_part(task: AdaptTask) -> list[str]:
    """Adapt a run, unless it is done: names of its evaluations, first as it was trained, then one for each cell."""
    if task.file.is_file():
        names: list[str] = read_json(task.file)["evaluations"]
        return names
    run, quiet = open_run(task.run), Console(file=io.StringIO())
    adapted = adapt_to_images(run, task.spec, split=SPLIT, seed=task.seed)
    asked: list[DeviceOptions] = [{}]
    for cell in task.cells if run.spec.model.has_circuit else ():
        asked.append(
            {
                "device": cell.device,
                "noise": cell.noise,
                "noise_scale": None if cell.noise is None else cell.noise_scale,
                "noise_parts": None if cell.noise_parts is None else list(cell.noise_parts),
                "shots": cell.shots,
                "layout_seeds": cell.layout_seeds,
                "mitigation": cell.mitigation,
            }
        )
    names = [
        evaluate_adapted(run, task.spec, split=SPLIT, seed=task.seed, adapted=adapted, console=quiet, **options).name
        for options in asked
    ]
    write_json(task.file, {"evaluations": names})
    return names


def has_normalisation(backbone: Backbone) -> bool:
    """Whether a CNN has batch normalisation, which can be adapted at test."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return any(isinstance(layer, _BatchNorm) for layer in build_backbone(backbone, "none")[0].modules())


Read = Callable[[Trained], Probabilities]


def pool(parts: Sequence[Part], arm: str, read: Read) -> Predicted:
    """The predictions of an arm for the test images of all parts, in the order of the parts.

    Args:
        parts: All of them.
        arm: Its name.
        read: The predictions of a training, (n, C).

    Returns:
        Seed -> (N, C), of the seeds that are complete in every part.
    """
    found: dict[int, list[Probabilities]] = {}
    for part in parts:
        for each in part.trained(arm):
            if not each.message:
                found.setdefault(each.seed, []).append(read(each))
    return {seed: np.concatenate(several) for seed, several in found.items() if len(several) == len(parts)}


def evaluated(name_of: Callable[[Trained], str], array: str = "probabilities") -> Read:
    """Reads an array of an evaluation that a run has."""

    def read(trained: Trained) -> Probabilities:
        path = Path(str(trained.path)) / "predictions" / f"{name_of(trained)}.npz"
        return read_arrays(path, (array,))[array]

    return read


def pooled_samples(parts: Sequence[Part]) -> tuple[Labels, NDArray[np.str_]]:
    """Labels (N,) and ids (N,) of the test images of all parts.

    Raises:
        InputError: In a part no training is complete.
    """
    labels, ids = [], []
    for part in parts:
        found = part.samples()
        if found is None:
            raise InputError(f"no training of {part.name!r} is complete: see {part.path}; --retry goes on with them")
        labels.append(found[0])
        ids.append(found[1])
    return np.concatenate(labels), np.concatenate(ids)


def adapted_name(adapted: Mapping[tuple[str, int], list[str]], place: int) -> Callable[[Trained], str]:
    """Names of the evaluations of adapted runs: as trained (0), or under the n-th condition (1 to n)."""
    return lambda trained: adapted[str(trained.path), trained.seed][place]
