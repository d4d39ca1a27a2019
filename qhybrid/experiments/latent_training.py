"""Train the generator of an experiment into a run folder, and go on with one that was interrupted."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
from rich.console import Console
from torch import Tensor

from qhybrid import catalog
from qhybrid.data.dataset import ImageDataset, Split
from qhybrid.errors import InputError, Interrupted
from qhybrid.experiments.checkpoints import CheckpointFiles, best_and_last, has_stopped, position, read_checkpoint
from qhybrid.experiments.generator_spec import GeneratorSpec
from qhybrid.experiments.latent_batches import (
    encoded,
    image_rows,
    latent_rows,
    ordered_loader,
    plain_loader,
    varied_rows,
)
from qhybrid.experiments.latent_diffusion import (
    LatentDiffusion,
    build_generator,
    generator_parameters,
    noise_schedule,
    quantum_layers,
)
from qhybrid.experiments.latent_modules import AutoencoderModule, DenoiserModule, StageModule
from qhybrid.experiments.model import save_weights
from qhybrid.experiments.progress import EpochTable, Progress
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.runs import claim, create_run, how_to_go_on, is_stop, state_kept
from qhybrid.experiments.spec import ExperimentSpec
from qhybrid.experiments.trainer import check_available, deterministic, quiet_lightning
from qhybrid.experiments.training_data import load_data
from qhybrid.storage import write_json, write_text


def train_generator(spec: ExperimentSpec, *, out: Path, console: Console) -> Run:
    """Train the generator of an experiment.

    First the autoencoder, on the images of the training split alone; then, with its weights fixed, the denoiser on
    their latents. Of both the epoch with the lowest loss on the validation split is kept.

    Args:
        spec: With a `[generator]` table.
        out: Folder of all runs.
        console: Where progress and warnings go.

    Returns:
        The complete run.

    Raises:
        InputError: Data, circuit, device or sizes are wrong.
    """
    dataset, leaks = load_data(spec, console)
    model = check_generator(spec, dataset)
    run = create_run(spec, out)
    with claim(run), _state_kept(run):
        describe_generator(run, dataset, model, leaks)
        return finish_generator(run, dataset, model, console)


def resume_generator(run: Run, *, console: Console) -> Run:
    """Go on with the training of a generator at its last epoch; the caller holds the run.

    Raises:
        InputError: The images have changed since it began.
    """
    dataset, _ = load_data(run.spec, console)
    if dataset.fingerprint() != run.data["fingerprint"]:
        raise InputError(f"run {str(run.path)!r}: the images of {dataset.name!r} have changed since it began")
    model = check_generator(run.spec, dataset, circuit=run.generator_circuit)
    with _state_kept(run):
        return finish_generator(run, dataset, model, console)


def check_generator(spec: ExperimentSpec, dataset: ImageDataset, *, circuit: str | None = None) -> LatentDiffusion:
    """Look at all that the user can have got wrong, and build the generator.

    Args:
        spec: With a `[generator]` table.
        dataset: The images.
        circuit: Path of a copy of the circuit; None: as the settings say.

    Raises:
        InputError: It cannot be trained.
    """
    generator = settings_of(spec)
    check_available(spec.train)
    if spec.train.n_processes > 1:
        raise InputError(f"train.devices x train.nodes = {spec.train.n_processes}: a generator trains in one process")
    noise_schedule(generator)
    model = build_generator(generator, **_sizes(spec, dataset, circuit))
    for layer in quantum_layers(model):
        if layer.device.capabilities.asynchronous:
            raise InputError(
                f"device.name = {spec.device.name!r} sends jobs; a generator trains on a simulator, such as "
                "qhybrid.statevector"
            )
    return model


def settings_of(spec: ExperimentSpec) -> GeneratorSpec:
    """The `[generator]` table.

    Raises:
        InputError: There is none.
    """
    if spec.generator is None:
        raise InputError(f"experiment {spec.name!r} has no [generator] table")
    return spec.generator


def describe_generator(run: Run, dataset: ImageDataset, model: LatentDiffusion, leaks: list[str]) -> None:
    """Write what a generator is made from: its images, its parameter counts, its own copy of the circuit."""
    generator = settings_of(run.spec)
    circuit = catalog.find("circuits", generator.circuit)
    write_text(run.path / "circuits" / circuit.name, circuit.read_text(encoding="utf-8"))
    noise = next((layer.noise for layer in quantum_layers(model) if layer.noise is not None), None)
    description = {
        "source": dataset.name,
        "fingerprint": dataset.fingerprint(),
        "class_names": list(dataset.class_names),
        "counts": dataset.class_counts(),
        "leaks": leaks,
        "leaks_dropped": run.spec.data.drop_leaks,
        "channels": dataset.splits["train"].images.shape[1],
        "parameters": generator_parameters(model, generator, **_sizes(run.spec, dataset, None)),
        "noise": None if noise is None else noise.provenance(),
    }
    write_json(run.path / "data.json", description)


def finish_generator(run: Run, dataset: ImageDataset, model: LatentDiffusion, console: Console) -> Run:
    """Train both parts, each from its last checkpoint if there is one, and keep the best."""
    spec, seed = settings_of(run.spec), run.spec.train.seed
    training, validation = dataset.splits["train"], dataset.splits["validation"]
    autoencoder = AutoencoderModule(model, spec, seed)
    _fit_stage(run, autoencoder, [(image_rows(split), split) for split in (training, validation)], console)
    model.requires_grad_(False)
    for layer in quantum_layers(model):
        layer.calls = 0  # the shots of what follows are the same after a resume
    posteriors = {name: encoded(model, split) for name, split in (("train", training), ("validation", validation))}
    _standardise(model, posteriors["train"])
    model.denoiser.requires_grad_(True)
    denoiser = DenoiserModule(model, spec, seed)
    rows = [(latent_rows(posteriors[name], dataset.splits[name].labels), dataset.splits[name]) for name in posteriors]
    if spec.transforms:
        rows[0] = (varied_rows(training, spec.transforms, seed), training)
    _fit_stage(run, denoiser, rows, console)
    model.denoiser.load_state_dict(denoiser.average.module.state_dict())
    save_weights(model, run.path / "model.safetensors")
    run.set_state("complete")
    return run


def _sizes(spec: ExperimentSpec, dataset: ImageDataset, circuit: str | None) -> dict[str, Any]:
    return {
        "channels": dataset.splits["train"].images.shape[1],
        "image_size": spec.data.image_size,
        "n_classes": len(dataset.class_names),
        "circuit": circuit or settings_of(spec).circuit,
        "device": spec.device,
        "seed": spec.train.seed,
    }


def _standardise(model: LatentDiffusion, posteriors: Tensor) -> None:
    """Mean and deviation of each latent channel over the training images, the spread of the posteriors with them."""
    mean, log_variance = posteriors.chunk(2, dim=1)
    variance = mean.var(dim=(0, 2, 3), unbiased=False) + log_variance.exp().mean(dim=(0, 2, 3))
    model.latent_mean.copy_(mean.mean(dim=(0, 2, 3))[:, None, None])
    model.latent_std.copy_(variance.sqrt().clamp_min(1e-6)[:, None, None])


def _fit_stage(run: Run, module: StageModule, rows: list[tuple[Any, Split]], console: Console) -> None:
    """Train one part to its end; it then has the weights of its best epoch."""
    module.train()
    name = "autoencoder" if isinstance(module, AutoencoderModule) else "denoiser"
    stage = Run(run.path / name, run.spec)
    first = settings_of(run.spec).autoencoder_epochs if name == "denoiser" else 0
    epochs, _ = module.epochs_and_rate()
    spec = run.spec.train.model_copy(update={"epochs": epochs, "patience": 0})
    batch_size = module.spec.batch_size
    (take, training), (take_validation, validation) = rows
    loader = ordered_loader(take, len(training), batch_size=batch_size, seed=spec.seed)
    last = read_checkpoint(stage.last_checkpoint) if stage.last_checkpoint.is_file() else None
    gpu = check_available(spec)
    if last is None or not has_stopped(last, spec):
        console.print(f"{name}: {epochs} epoch{'s' if epochs > 1 else ''}", highlight=False)
        with quiet_lightning(), deterministic(on=not gpu):
            trainer = lightning.Trainer(
                accelerator="gpu" if gpu else "cpu",
                devices=1,
                max_epochs=epochs,
                logger=False,
                callbacks=[
                    EpochTable(run.path / "metrics.csv", first_epoch=first, also={"stage": "12"[name == "denoiser"]}),
                    Progress(console),
                    *best_and_last(stage),
                ],
                plugins=[CheckpointFiles()],
                num_sanity_val_steps=0,
                enable_progress_bar=False,
                enable_model_summary=False,
                log_every_n_steps=1,
            )
            if last is not None:
                loader.sampler.start_at(*position(last))  # type: ignore[attr-defined]
            trainer.fit(
                module,
                loader,
                plain_loader(take_validation, len(validation), batch_size=256),
                ckpt_path=None if last is None else stage.last_checkpoint,
            )
    module.load_state_dict(read_checkpoint(stage.best_checkpoint)["state_dict"])


@contextmanager
def _state_kept(run: Run) -> Iterator[None]:
    """As `state_kept`, and say how to go on."""
    try:
        with state_kept(run):
            yield
    except BaseException as error:
        if is_stop(error):
            raise Interrupted(f"interrupted; {how_to_go_on(run)}") from None
        raise
