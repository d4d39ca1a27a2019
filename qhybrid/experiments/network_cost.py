"""What one image costs a network: floating-point operations and time."""

import time
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from qhybrid.errors import QHybridError
from qhybrid.experiments.device_choice import HARDWARE_DEVICE
from qhybrid.experiments.model import HybridClassifier, build_classifier
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.spec import DeviceChoice, ExperimentSpec
from qhybrid.storage import read_json, write_json

PASSES, WARM_UP = 30, 3
SIMULATOR = DeviceChoice(name="qhybrid.statevector")


def network_cost(run: Run) -> dict[str, Any]:
    """Count and time the forward pass of one image, once; what was measured stays in the run's `network.json`.

    Args:
        run: A complete run.

    Returns:
        `flops`, as `count_flops` counts them; `latency_ms`, the median over `passes` passes after some to warm up, with
        the quantum layer on the device of the training, or simulated exactly in place of a machine that takes jobs;
        `quantum_device`, that it was timed on (None: there is no such layer), `processor` and `threads`.

    Raises:
        InputError: The weights are missing or damaged.
    """
    path = run.path / "network.json"
    if path.is_file():
        return read_json(path)
    model = _on_device_of_training(run)
    layer = model.head.layer
    gpu = torch.cuda.is_available() and run.spec.train.accelerator != "cpu"
    measured = {
        "flops": count_flops(model, run.spec.data.image_size),
        "latency_ms": _latency(model.to("cuda" if gpu else "cpu"), run.spec.data.image_size),
        "passes": PASSES,
        "quantum_device": None if layer is None else layer.device.name,
        "processor": torch.cuda.get_device_name() if gpu else "CPU",
        "threads": torch.get_num_threads(),
    }
    write_json(path, measured)
    return measured


@torch.no_grad()
def count_flops(model: HybridClassifier, image_size: int) -> int:
    """Count the floating-point operations of one image by torch's FlopCounterMode.

    It counts convolutions and matrix products, a multiplication and an addition as two. The circuit is left out: on a
    quantum device it takes none, and what its simulation takes depends on the simulator.

    Args:
        model: On the CPU; is set to evaluation mode.
        image_size: Height and width of the image in pixels.
    """
    model.eval()
    image = torch.full((1, 3, image_size, image_size), 0.5, device=model.mean.device)
    model(image)  # a head that keeps weights from a circuit makes them now
    counter = FlopCounterMode(display=False)
    with counter:
        model(image)
    simulated = counter.get_flop_counts().get(f"{type(model).__name__}.head.layer", {})
    return int(counter.get_total_flops()) - int(sum(simulated.values()))


def flops_of(spec: ExperimentSpec, *, n_classes: int, circuit: str) -> int:
    """The same for an experiment, whose weights do not matter.

    Args:
        spec: The experiment.
        n_classes: Number of classes.
        circuit: Catalog name or path of its circuit.
    """
    plain = spec.model.model_copy(update={"weights": "none"})
    model = build_classifier(plain, n_classes=n_classes, circuit=circuit, device=SIMULATOR)
    return count_flops(model, spec.data.image_size)


def _on_device_of_training(run: Run) -> HybridClassifier:
    if run.spec.device.name == HARDWARE_DEVICE:
        return run.load_model(SIMULATOR)
    try:
        model = run.load_model()
    except QHybridError:  # a plug-in that is not installed here, no account
        return run.load_model(SIMULATOR)
    layer = model.head.layer
    return run.load_model(SIMULATOR) if layer is not None and layer.device.capabilities.asynchronous else model


@torch.inference_mode()
def _latency(model: HybridClassifier, image_size: int) -> float:
    """Milliseconds of one image on its way from memory to logits."""
    image = torch.full((1, 3, image_size, image_size), 0.5)
    seconds = []
    for _ in range(WARM_UP + PASSES):
        started = time.perf_counter()
        model(image.to(model.mean.device)).cpu()  # waits for a GPU
        seconds.append(time.perf_counter() - started)
    return round(1000 * median(seconds[WARM_UP:]), 3)
