"""The conditions under which a run is compared: devices, noise, its strength and parts, shots."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from typing import Any

from qhybrid.errors import InputError, QHybridError, did_you_mean
from qhybrid.experiments.adaptation_fits import DONE, METHODS
from qhybrid.experiments.spec import DeviceChoice
from qhybrid.noise_models.model import PARTS


@dataclass(frozen=True)
class Cell:
    """One condition.

    Args:
        device: Name or path of the device.
        noise: Name or path of the noise model; None: none.
        noise_scale: Factor on all of its rates.
        noise_parts: Which parts of it are on; None: all.
        shots: Of every circuit; None: exact expectation values.
        repeats: Independent draws of the shots; 1 where nothing is drawn.
        layout_seeds: Transpiler seeds tried for the layout; None: the device's default.
        mitigation: How errors are mitigated, such as `readout,zne`; None: as the device's file says.
        adapt: What is fitted anew under this condition, `head` or `rescale` (see `adaptation.adapt`); None: nothing.
    """

    device: str
    noise: str | None = None
    noise_scale: float = 1.0
    noise_parts: tuple[str, ...] | None = None
    shots: int | None = None
    repeats: int = 1
    layout_seeds: int | None = None
    mitigation: str | None = None
    adapt: str | None = None

    @property
    def label(self) -> str:
        """Such as `qiskit.aer, ibm_torino x0.5, 1024 shots`."""
        noise = self.noise or "no noise"
        if self.noise_scale != 1:
            noise += f" x{self.noise_scale:g}"
        if self.noise_parts is not None:
            noise += f" ({', '.join(self.noise_parts) or 'no part'})"
        mitigated = f", {self.mitigation.replace(',', ' + ')}" if self.mitigation not in (None, "none") else ""
        adapted = f", {DONE[self.adapt]}" if self.adapt is not None else ""
        shots = "exact" if self.shots is None else f"{self.shots} shots"
        return f"{self.device}, {noise}, {shots}{mitigated}{adapted}"

    @property
    def choice(self) -> DeviceChoice:
        """The same as the choice of a device."""
        return DeviceChoice(
            name=self.device,
            shots=self.shots,
            noise=self.noise,
            noise_scale=self.noise_scale,
            noise_parts=None if self.noise_parts is None else list(self.noise_parts),
            layout_seeds=self.layout_seeds,
            mitigation=self.mitigation,
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, and `label`; `adapt` only where something is fitted anew."""
        fields = asdict(self) | {"label": self.label}
        return {name: value for name, value in fields.items() if name != "adapt" or value is not None}


def grid(
    devices: Sequence[str],
    noises: Sequence[str | None],
    scales: Sequence[float],
    shots: Sequence[int | None],
    *,
    repeats: int,
    mitigations: Sequence[str | None] = (None,),
    adaptations: Sequence[str] = (),
    layout_seeds: int | None = None,
) -> tuple[list[Cell], list[str]]:
    """Every combination that a device can do, once.

    Without noise its strength does not matter, and exact values are not repeated.

    Args:
        devices: Names or paths.
        noises: Names or paths of noise models; None: no noise.
        scales: Factors on the rates.
        shots: Of every circuit; None: exact.
        repeats: Draws of the shots.
        mitigations: Ways to mitigate errors; None: as the device's file says. Without noise there is nothing to do.
        adaptations: `none`, `head`, `rescale`. Each condition is also there without any, which tells what they recover;
            with exact values and no noise there is nothing to adapt to.
        layout_seeds: Transpiler seeds tried for each layout.

    Returns:
        The cells in order, and what was left out, with the reason.

    Raises:
        InputError: There is no such adaptation, or nothing is left.
    """
    for name in adaptations:
        if name not in ("none", *METHODS):
            raise InputError(f"unknown adaptation {name!r}; {did_you_mean(name, ('none', *METHODS))}")
    methods = [None, *(name for name in adaptations if name != "none")]
    cells: dict[Cell, None] = {}
    left_out: dict[str, None] = {}
    for device, noise, scale, n_shots, mitigation, method in product(
        devices, noises, scales, shots, mitigations, methods
    ):
        way = mitigation if noise is not None or mitigation == "none" else mitigations[0]
        if (problem := _problem(device, noise, n_shots, way)) is not None:
            left_out[problem] = None
            continue
        cells[
            Cell(
                device,
                noise,
                1.0 if noise is None else float(scale),
                shots=n_shots,
                repeats=1 if n_shots is None else repeats,
                layout_seeds=layout_seeds,
                mitigation=way,
                adapt=None if noise is None and n_shots is None else method,
            )
        ] = None
    if not cells:
        raise InputError(f"no cell of the grid can be computed: {'; '.join(left_out) or 'it is empty'}")
    return list(cells), list(left_out)


def parts_of(cells: Iterable[Cell]) -> list[Cell]:
    """What tells apart the parts of a noise model: one part at a time, and all but one; exact, at full strength.

    Args:
        cells: Those with noise are taken apart; each noise model on each device once.
    """
    found: dict[Cell, None] = {}
    for cell in cells:
        if cell.noise is None:
            continue
        whole = Cell(cell.device, cell.noise, layout_seeds=cell.layout_seeds)
        subsets: list[tuple[str, ...] | None] = [None]
        for part in PARTS:
            subsets += [(part,), tuple(other for other in PARTS if other != part)]
        for subset in subsets:
            found[Cell(whole.device, whole.noise, noise_parts=subset, layout_seeds=whole.layout_seeds)] = None
    return list(found)


@cache
def _problem(device: str, noise: str | None, shots: int | None, mitigation: str | None) -> str | None:
    """Why a device cannot do this; None: it can."""
    from qhybrid.devices.mitigation_spec import parse_mitigation
    from qhybrid.devices.spec import load_device
    from qhybrid.noise_models.spec import load_noise_model

    try:
        model = None if noise is None else load_noise_model(noise)
        opened = load_device(device, noise=model, mitigation=mitigation)
    except InputError:
        if noise is None:
            raise
        parse_mitigation(mitigation)
        load_noise_model(noise)
        load_device(device)  # what is wrong with either of them is the user's to know
        return f"{device} takes no noise model ({noise})"
    except QHybridError as error:
        return str(error)
    if shots is None and not opened.capabilities.analytic:
        return f"{device} has no exact expectation values"
    if shots is not None and not opened.capabilities.shots:
        return f"{device} takes no shots ({shots})"
    if opened.capabilities.asynchronous:
        return f"{device} is a machine: send it with `qhybrid submit`, whose results stand beside the grid's"
    return None
