"""What quantum blocks add to a training step: experiments beside their classical twins, in one run.

A step is forward, loss, backward and Adam on a batch of made-up images, of the experiment's size and number. Contenders
take turns, so that a busy moment of the machine hits all of them, and the median of several rounds counts.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from qhybrid.errors import InputError
from qhybrid.experiments.batches import Batch
from qhybrid.experiments.latent_diffusion import build_generator
from qhybrid.experiments.latent_modules import AutoencoderModule, DenoiserModule, StageModule
from qhybrid.experiments.latent_training import settings_of
from qhybrid.experiments.model import build_classifier
from qhybrid.experiments.spec import ExperimentSpec, ModelSpec, load_experiment, override
from qhybrid.experiments.study_arms import resolve_arms

N_CLASSES = 2
DEVICE = "qhybrid.statevector"
SYSTEMS = ("hqcnn", "lqer", "dressed", "ssl_pqc", "domains", "latent_diffusion")

Step = Callable[[], None]


@dataclass
class SystemTiming:
    """One experiment: seconds of each round, with its quantum blocks and with their twin in their place."""

    experiment: str
    part: str
    """What is trained: `classifier`, an arm of a study, or a part of a generator."""
    quantum: list[float] = field(default_factory=list)
    twin: list[float] = field(default_factory=list)

    @property
    def added(self) -> float:
        """What the quantum blocks add, as a share of the twin's step: the median over the rounds."""
        return statistics.median(a / b for a, b in zip(self.quantum, self.twin, strict=True)) - 1

    def to_dict(self) -> dict[str, Any]:
        """Rounds, their medians, and what is added."""
        medians = {"quantum": statistics.median(self.quantum), "twin": statistics.median(self.twin)}
        return asdict(self) | {"medians": medians, "added": self.added}


@dataclass
class SystemBenchmark:
    """Timings of one run of `qhybrid bench --experiments`."""

    repeats: int
    timings: list[SystemTiming]

    def to_dict(self) -> dict[str, Any]:
        """Everything."""
        return {"repeats": self.repeats, "device": DEVICE, "timings": [each.to_dict() for each in self.timings]}

    def tables(self) -> list[tuple[str, list[list[str]]]]:
        """One table: its title, and its rows with the header first."""
        rows = [["experiment", "trained", "step, ms", "with its twin, ms", "added"]]
        for each in self.timings:
            medians = [f"{1e3 * statistics.median(seconds):.1f}" for seconds in (each.quantum, each.twin)]
            rows.append([each.experiment, each.part, *medians, f"{each.added:+.1%}"])
        return [(f"a training step on {DEVICE}, median of {self.repeats} rounds", rows)]

    def notes(self) -> list[str]:
        """What the numbers mean."""
        return [
            "twin: a classical block of about as many parameters; added: median over rounds of one step to the other"
        ]


def run_system_bench(names: Sequence[str], *, repeats: int = 15) -> SystemBenchmark:
    """Time a training step of experiments and of their classical twins.

    Args:
        names: Experiments; their own settings, on `qhybrid.statevector`.
        repeats: Timed rounds after one that warms up.

    Raises:
        InputError: There is no such experiment, it has no quantum block, or repeats are not positive.
    """
    if repeats < 1:
        raise InputError(f"repeats {repeats} must be at least 1")
    contenders = [each for name in names for each in _contenders(name)]
    for round_number in range(repeats + 1):
        for timing, quantum, twin in contenders:
            for step, seconds in ((quantum, timing.quantum), (twin, timing.twin)):
                started = time.perf_counter()
                step()
                if round_number > 0:
                    seconds.append(time.perf_counter() - started)
    return SystemBenchmark(repeats, [timing for timing, _, _ in contenders])


def _contenders(name: str) -> list[tuple[SystemTiming, Step, Step]]:
    """Each network of an experiment that is trained, with and without its quantum blocks."""
    spec = override(load_experiment(name), {"device.name": DEVICE})
    if spec.trains_generator and spec.study is None:
        return _generator_contenders(name, spec)
    networks = _arms(spec) if spec.study else {"classifier": spec.model.model_copy(update={"weights": "none"})}
    found = []
    for part, model in networks.items():
        if not model.has_circuit:
            continue
        quantum = spec.model_copy(update={"model": model})
        twin = override(quantum, {"model.head": "mlp", "model.attention": "none"})
        found.append((SystemTiming(name, part), _classifier_step(quantum), _classifier_step(twin)))
    if not found:
        raise InputError(f"experiment {name!r} has no quantum block whose time could be told")
    return found


def _arms(spec: ExperimentSpec) -> dict[str, ModelSpec]:
    """The networks that differ between the arms of a study, by the name of the first arm that has it.

    First weights change nothing about the time of a step, and are random here.
    """
    found: dict[str, ModelSpec] = {}
    for arm in resolve_arms(spec):
        model = arm.spec.model.model_copy(update={"weights": "none"})
        if model not in found.values():
            found[arm.name] = model
    return found


def _generator_contenders(name: str, spec: ExperimentSpec) -> list[tuple[SystemTiming, Step, Step]]:
    """The autoencoder and the denoiser, each with circuits wherever they can be."""
    quantum, twin = (_generator_steps(override(spec, {"generator.quantum": each})) for each in (True, False))
    return [(SystemTiming(name, part), quantum[part], twin[part]) for part in quantum]


def _generator_steps(spec: ExperimentSpec) -> dict[str, Step]:
    settings, size = settings_of(spec), spec.data.image_size
    model = build_generator(
        settings, channels=1, image_size=size, n_classes=N_CLASSES, circuit=settings.circuit, device=spec.device
    )
    images = torch.rand(settings.batch_size, 1, size, size, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(settings.batch_size) % N_CLASSES
    with torch.no_grad():
        latents = torch.cat(model.autoencoder.encode(images), dim=1)
    varied = images if settings.transforms else latents  # what the denoiser's batches are: see DenoiserModule
    parts: dict[str, tuple[StageModule, Batch]] = {
        "autoencoder": (AutoencoderModule(model, settings, seed=0), (images, labels)),
        "denoiser": (DenoiserModule(model, settings, seed=0), (varied, labels)),
    }
    return {name: _stage_step(*part, spec.train.learning_rate) for name, part in parts.items()}


def _stage_step(module: StageModule, batch: Batch, learning_rate: float) -> Step:
    return _step(module.stage(), lambda: module.loss(batch), learning_rate)


def _classifier_step(spec: ExperimentSpec) -> Step:
    model = build_classifier(spec.model, n_classes=N_CLASSES, circuit=spec.model.circuit, device=spec.device).train()
    size, batch = spec.data.image_size, spec.train.batch_size
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, 3, size, size, generator=generator)
    labels = torch.arange(batch) % N_CLASSES
    return _step(model, lambda: functional.cross_entropy(model(images), labels), spec.train.learning_rate)


def _step(model: nn.Module, loss: Callable[[], torch.Tensor], learning_rate: float) -> Step:
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step
