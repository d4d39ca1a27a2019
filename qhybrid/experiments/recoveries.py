"""What wins back what noise costs: mitigation, adaptation, training through the noise; and what each costs itself."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qhybrid import catalog
from qhybrid.experiments.adaptation_fits import DONE
from qhybrid.experiments.cells import noise_fingerprint
from qhybrid.experiments.findings import METRICS, is_bare, rms_of
from qhybrid.experiments.run_folder import Run
from qhybrid.statistics import holm

NAMES = {"accuracy": "accuracy", "auc": "AUC"}
VISIBLE = 5e-4
"""What does not show in three digits is no difference."""
FIELDS = ("device", "noise", "noise_scale", "shots")
"""What the cells of a pair have in common."""
ELSEWHERE = {
    "name": True, "description": True, "source": True, "study": True, "device": True,
    "train": {"noise_scale", "workers", "accelerator", "loggers"},
}  # fmt: skip
"""What two runs may differ in that are told apart only by the noise that one was trained through."""


@dataclass(frozen=True)
class Pair:
    """A cell in which something is done about the noise, and the same one without it.

    Args:
        before: As the run is, nothing done.
        after: The other cell; of another run where that was trained through the noise.
        trained: That run; None: the cells are of one run.
    """

    before: dict[str, Any]
    after: dict[str, Any]
    trained: Run | None = None

    @property
    def files(self) -> tuple[str, str]:
        """Of both cells."""
        before, after = (
            f"{each['run']}/comparison/cells/{each['key']}.json" for each in (self.before, self.after)
        )  # fmt: skip
        return before, after

    @property
    def mitigation(self) -> str | None:
        """The mitigation that only the second cell has."""
        before, after = (each["cell"].get("mitigation") for each in (self.before, self.after))
        return None if after == before else after

    @property
    def what(self) -> str:
        """What was done, in words."""
        if self.trained is not None:
            spec = self.trained.spec
            low, high = (factor * spec.device.noise_scale for factor in spec.train.noise_scale)
            spread = f"x{low:g}" if low == high else f"x{low:g} to x{high:g}"
            return f"trained through the noise{'' if spread == 'x1' else f' {spread}'}"
        adapted = self.after["cell"].get("adapt")
        done = [self.mitigation.replace(",", " + ") if self.mitigation else None, DONE[adapted] if adapted else None]
        return " + ".join(each for each in done if each)


@dataclass(frozen=True)
class Recovery:
    """What was done about the noise, what it recovers, and what it costs.

    Args:
        run: The run.
        device: The device.
        noise: The noise model; None: shots alone.
        noise_scale: Its strength.
        shots: Of every circuit; None: exact.
        what: What was done, in words.
        mitigation: The mitigation; None: none.
        adapt: The adaptation, `head` or `rescale`; None: none.
        trained_through: The run that was trained through the noise and stands in for `run`; None: it is `run` itself.
        rms: Root mean square error of the expectation values without and with it; None where it does not change them,
            or they are those of another training.
        loss: Metric -> its loss without and with it, both to the exact values of `run` without noise.
        exact: Metric -> its exact value without noise, of `run` and of the run that was trained through the noise; None
            where that is one run. What the latter wins under noise holds what it wins or loses without.
        gain: Metric -> what is won back on the same images: difference, interval (95 %), p, and p_holm, corrected over
            all recoveries of a comparison.
        shots_factor: Shots of a diagnosis with it over shots without, calibration included; None for exact values.
        shots_once: Shots that it takes once, beforehand; None: they were not recorded.
        cost: Both in words.
    """

    run: str
    device: str
    noise: str | None
    noise_scale: float
    shots: int | None
    what: str
    mitigation: str | None
    adapt: str | None
    trained_through: str | None
    rms: tuple[float, float] | None
    loss: dict[str, tuple[float, float]]
    exact: dict[str, tuple[float, float]] | None
    gain: dict[str, dict[str, Any]]
    shots_factor: float | None
    shots_once: int | None
    cost: str

    @property
    def worse_in(self) -> list[str]:
        """What is worse with it: expectation values, accuracy, AUC; whether more than by chance, is for p to tell."""
        off = ["expectation values"] if self.rms is not None and self.rms[1] - self.rms[0] > VISIBLE else []
        return off + [name for metric, name in NAMES.items() if self.gain[metric]["difference"] < -VISIBLE]

    @property
    def caution(self) -> str | None:
        """What must stand beside it: a training through the noise is another training; None: nothing."""
        if self.trained_through is None or self.exact is None:
            return None
        other, run = Path(self.trained_through).name, Path(self.run).name
        exact = " and ".join(
            f"{name} {self.exact[metric][1]:.3f} (of {run}: {self.exact[metric][0]:.3f})"
            for metric, name in NAMES.items()
        )
        return (
            f"{self.what}: {other}, another training; exact and without noise it has {exact}, and the difference under "
            "noise includes that one."
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields by name; `worse_in`, `worse` where that is not empty, and `caution`."""
        return asdict(self) | {"worse_in": self.worse_in, "worse": bool(self.worse_in), "caution": self.caution}


def recovery_pairs(cells: Sequence[dict[str, Any]], runs: Sequence[Run]) -> list[Pair]:
    """Each cell in which something is done about the noise, beside the same one without.

    Args:
        cells: Of the grid.
        runs: Whose they are. One that differs from another only in the noise that it was trained through stands
            beside that one wherever the grid has this noise.
    """
    bare = {_place(cell): cell for cell in cells if is_bare(cell)}
    as_trained = {(*_place(cell), _mitigation(cell)): cell for cell in cells if cell["cell"].get("adapt") is None}
    pairs = []
    for cell in cells:
        before = bare.get(_place(cell)) or as_trained.get((*_place(cell), _mitigation(cell)))
        if before is not None and before is not cell:
            pairs.append(Pair(before, cell))
    folders = {run.path.resolve().as_posix(): run for run in runs}
    for plain, run in folders.items():
        for other, candidate in folders.items():
            if not trained_through_noise(run, candidate):
                continue
            for cell in bare.values():
                after = bare.get((other, *_place(cell)[1:]))
                if cell["run"] == plain and after is not None and _is_its_noise(candidate, cell["cell"]["noise"]):
                    pairs.append(Pair(cell, after, candidate))
    places = {cell["key"]: number for number, cell in enumerate(cells)}
    return sorted(pairs, key=lambda pair: places[pair.before["key"]])


def recoveries(pairs: Sequence[Pair], gains: Sequence[Mapping[str, Mapping[str, Any]]]) -> list[Recovery]:
    """Say what each pair tells.

    Args:
        pairs: From `recovery_pairs`.
        gains: From `gains.read_gain`, one for each pair.
    """
    corrected = {metric: holm([gain[metric]["p"] for gain in gains]).tolist() for metric in METRICS}
    return [
        _recovery(pair, {metric: {**gain[metric], "p_holm": corrected[metric][number]} for metric in METRICS})
        for number, (pair, gain) in enumerate(zip(pairs, gains, strict=True))
    ]


def trained_through_noise(plain: Run, other: Run) -> bool:
    """Whether a run differs from one that was trained without noise only in the noise that it was trained through."""
    if plain.spec.device.noise is not None or other.spec.device.noise is None:
        return False
    specs = [run.spec.model_dump(exclude=ELSEWHERE) for run in (plain, other)]  # type: ignore[arg-type]
    circuits = [catalog.find("circuits", run.circuit).read_bytes() for run in (plain, other)]
    return specs[0] == specs[1] and circuits[0] == circuits[1]


def _recovery(pair: Pair, gain: dict[str, dict[str, Any]]) -> Recovery:
    before, after = pair.before, pair.after
    place, adaptation = after["cell"], after.get("adaptation")
    shots = before["cost"]["shots"]
    kept = pair.trained is not None or (pair.mitigation is None and place.get("adapt") == "head")
    factor = after["cost"]["shots"] / shots if shots else None
    once = _training_shots(pair.trained) if pair.trained else adaptation["shots"] if adaptation else 0
    found, others = before["metrics"], after["metrics"]
    return Recovery(
        run=before["run"],
        device=place["device"],
        noise=place["noise"],
        noise_scale=place["noise_scale"],
        shots=place["shots"],
        what=pair.what,
        mitigation=pair.mitigation,
        adapt=place.get("adapt"),
        trained_through=None if pair.trained is None else after["run"],
        rms=None if kept else (rms_of(before), rms_of(after)),
        loss={
            metric: (-found[metric]["difference"], found[metric]["exact"] - others[metric]["value"])
            for metric in METRICS
        },
        exact=(
            {metric: (found[metric]["exact"], others[metric]["exact"]) for metric in METRICS} if pair.trained else None
        ),
        gain=gain,
        shots_factor=factor,
        shots_once=once,
        cost=_cost(pair, factor, once),
    )


def _cost(pair: Pair, factor: float | None, once: int | None) -> str:
    if pair.trained is not None:
        if once is None:
            shots = pair.trained.spec.device.shots
            return f"simulated training with {shots} shots a circuit, not recorded how many in all"
        return "simulated training, 0 shots"
    words = []
    if pair.mitigation is not None and factor is not None:
        words.append(f"{factor:.1f} times the shots")
    if "adaptation" in pair.after:
        adaptation = pair.after["adaptation"]
        words.append(f"once {adaptation['circuits']:,} circuits, {f'{once:,} shots' if once else 'exact: 0 shots'}")
    return "; ".join(words) or "exact: 0 shots"


def _training_shots(run: Run) -> int | None:
    """Shots of a simulated training: none with exact values; no run records how many it drew."""
    return 0 if run.spec.device.shots is None else None


def _is_its_noise(run: Run, noise: str | None) -> bool:
    """Whether a noise model is the one that a run was trained through, as it was then."""
    device, recorded = run.spec.device, run.data.get("noise")
    if noise is None or recorded is None:
        return False
    parts = None if device.noise_parts is None else tuple(device.noise_parts)
    return noise_fingerprint(noise, device.noise_scale, parts) == str(recorded["fingerprint"])


def _place(cell: dict[str, Any]) -> tuple[Any, ...]:
    return (cell["run"], *(cell["cell"][field] for field in FIELDS))


def _mitigation(cell: dict[str, Any]) -> str | None:
    mitigation: str | None = cell["cell"].get("mitigation")
    return mitigation
