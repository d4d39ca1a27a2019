"""The generators that a table of augmentation has rows for: each on its device, and under noise that is asked for."""

from collections.abc import Mapping, Sequence

from qhybrid.data.dataset import ImageDataset
from qhybrid.experiments.device_choice import DeviceOptions
from qhybrid.experiments.generation import Generator, open_generator
from qhybrid.experiments.generator_spec import PLACES, GeneratorSpec
from qhybrid.experiments.latent_training import settings_of
from qhybrid.experiments.run_folder import Run

KIND = "latent-diffusion"


def generator_kinds(
    runs: Sequence[Run],
    dataset: ImageDataset,
    *,
    noise: Sequence[str] = (),
    shots: int | None = None,
    steps: int | None = None,
    named: Mapping[str, Run] | None = None,
) -> dict[str, Generator]:
    """Load generators onto devices, and name them.

    Args:
        runs: Of generators.
        dataset: The images that they were trained on.
        noise: Noise models under which those with circuits in their denoiser are measured as well.
        shots: There; None: exact distributions.
        steps: Of a sample; None: as each one's settings say.
        named: Further ones, by the names that they are to have.

    Returns:
        Name, such as `latent-diffusion quantum` or `latent-diffusion quantum, ibm_fez`, -> generator.

    Raises:
        InputError: As in `open_generator`.
    """
    found: dict[str, Generator] = {}
    for run, given in [*((run, None) for run in runs), *((run, name) for name, run in (named or {}).items())]:
        spec = settings_of(run.spec) if run.spec.trains_generator else None
        name = given or (f"{KIND} {variant(spec)}" if spec else KIND)
        while name in found:
            name += "'"
        found[name] = open_generator(run, dataset, steps=steps)
        for model in noise if spec is not None and "denoiser" in spec.quantum else ():
            options: DeviceOptions = {"noise": model, "shots": shots}
            found[f"{name}, {model}"] = open_generator(run, dataset, steps=steps, **options)
    return found


def variant(spec: GeneratorSpec) -> str:
    """`quantum`, `classical`, or where its circuits are."""
    if not spec.quantum:
        return "classical"
    return "quantum" if len(spec.quantum) == len(PLACES) else f"quantum {spec.quantum[0]}"
