"""Where the circuit of a run lies on the machines it was compared on."""

from qhybrid.errors import QHybridError
from qhybrid.experiments.grid import Cell
from qhybrid.noise_models.map import machine_map
from qhybrid.noise_models.summary import Summary
from qhybrid.report.page import Picture, Table
from qhybrid.report.run_data import RunData

MOST_MACHINES = 4


def layout_pictures(data: RunData) -> list[Picture]:
    """A map for each machine whose noise was simulated, with the qubits of the circuit ringed.

    A machine whose noise model is not at hand any more, or is another one now, has none.
    """
    pictures: dict[str, Picture] = {}
    for condition in data.usual:
        place, noise = condition.cell["cell"], condition.cell["device"]["noise"]
        reports = condition.cell["device"]["isa"]
        if noise is None or not reports or noise["name"] in pictures or len(pictures) == MOST_MACHINES:
            continue
        cell = Cell(place["device"], place["noise"], shots=place["shots"], layout_seeds=place["layout_seeds"])
        try:
            layer = data.run.load_head(cell.choice).layer
            if layer is None or layer.noise is None or layer.noise.provenance()["fingerprint"] != noise["fingerprint"]:
                continue
            isa = layer.device.isa_circuits(layer.program)[0]  # type: ignore[attr-defined]
        except (QHybridError, AttributeError):
            continue
        qubits = [int(qubit) for qubit in isa.qubits]
        report = reports[0]
        listed = ", ".join(map(str, qubits))
        table = Table(
            "The circuit on the machine.",
            ["what", "value"],
            [
                ["qubits", listed],
                ["two-qubit gates", f"{report['gates2q']} {report['two_qubit_gate'].upper()}"],
                ["one-qubit gates", str(report["gates1q"])],
                ["depth", str(report["depth"])],
                ["duration", f"{1e6 * report['seconds']:.2f} µs"],
                ["success probability", f"{100 * report['survival']:.0f} %"],
                ["calibrated", (noise.get("date") or "no date: parametric")[:10]],
            ],
        )
        pictures[noise["name"]] = Picture(
            f"layout-{len(pictures) + 1}",
            f"The circuit on {noise['name']}",
            f"Ringed in green are the qubits that the circuit uses ({listed}). {condition.cell['device']['verdict']}.",
            f"Map of {layer.noise.n_qubits} qubits; the circuit uses {listed}.",
            machine_map(Summary(layer.noise), qubits),
            [table],
            themed=False,
            wide=layer.noise.n_qubits > 40,
        )
    return list(pictures.values())
