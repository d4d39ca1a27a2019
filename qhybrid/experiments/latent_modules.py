"""The two trainings of a generator as Lightning modules: first the autoencoder, then the denoiser of its latents."""

from typing import Any

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from qhybrid.experiments.batches import Batch
from qhybrid.experiments.generator_spec import GeneratorSpec
from qhybrid.experiments.latent_diffusion import LatentDiffusion, noise_schedule, quantum_layers
from qhybrid.experiments.latent_vae import autoencoder_loss, sample_latents
from qhybrid.experiments.seeding import derive_seed
from qhybrid.experiments.training_module import Diverged

AUTOENCODER, DENOISER, VALIDATION = 2, 3, 4
"""What numbers are drawn for, beside the seed; 0 and 1 are the first weights."""


class StageModule(lightning.LightningModule):  # type: ignore[misc]
    """What both trainings share: Adam whose rate falls along half a cosine, and the shots of circuits.

    All that a step draws follows from the seed and the step's number, so that a resumed training is the same.
    """

    def __init__(self, model: LatentDiffusion, spec: GeneratorSpec, seed: int) -> None:
        super().__init__()
        self.generator = model
        self.spec = spec
        self.seed = seed

    def stage(self) -> nn.Module:
        """The part that is trained."""
        raise NotImplementedError

    def epochs_and_rate(self) -> tuple[int, float]:
        """Epochs, and the learning rate of the first."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> Tensor:
        """Of a training step."""
        raise NotImplementedError

    def validation_loss(self, batch: Batch, index: int) -> Tensor:
        """Of a batch of the validation split; equal weights give equal losses."""
        raise NotImplementedError

    def draws(self, purpose: int, number: int) -> torch.Generator:
        """A generator for one step."""
        return torch.Generator().manual_seed(derive_seed(self.seed, "generator", purpose, number))

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        loss = self.loss(batch)
        if not torch.isfinite(loss):
            part = type(self.stage()).__name__.lower()
            rate = f"generator.{'autoencoder' if part == 'autoencoder' else 'denoiser'}_learning_rate"
            raise Diverged(f"the {part} diverged in epoch {self.current_epoch + 1}: try a smaller {rate}")
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch[0]))
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        loss = self.validation_loss(batch, index)
        self.log("validation_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch[0]))

    def configure_optimizers(self) -> dict[str, Any]:
        epochs, rate = self.epochs_and_rate()
        optimizer = torch.optim.Adam(self.stage().parameters(), lr=rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["layer_calls"] = [layer.calls for layer in quantum_layers(self)]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for layer, calls in zip(quantum_layers(self), checkpoint["layer_calls"], strict=True):
            layer.calls = int(calls)


class AutoencoderModule(StageModule):
    """Trains the autoencoder on images (B, C, S, S)."""

    def stage(self) -> nn.Module:
        return self.generator.autoencoder

    def epochs_and_rate(self) -> tuple[int, float]:
        return self.spec.autoencoder_epochs, self.spec.autoencoder_learning_rate

    def loss(self, batch: Batch) -> Tensor:
        images, spec = batch[0], self.spec
        side = images.shape[-1] // 2**spec.downsamplings
        shape = (len(images), spec.latent_channels, side, side)
        noise = torch.randn(shape, generator=self.draws(AUTOENCODER, self.global_step)).to(images.device)
        return self._loss(images, noise)

    def validation_loss(self, batch: Batch, index: int) -> Tensor:
        return self._loss(batch[0], None)

    def _loss(self, images: Tensor, noise: Tensor | None) -> Tensor:
        weights = {"edge_weight": self.spec.edge_weight, "kl_weight": self.spec.kl_weight}
        return autoencoder_loss(self.generator.autoencoder, images, noise, **weights)


class DenoiserModule(StageModule):
    """Trains the denoiser, and keeps a moving average of its weights.

    Batches are posteriors of latents (B, 2 L, s, s), or images where the training images are varied at random.
    """

    def __init__(self, model: LatentDiffusion, spec: GeneratorSpec, seed: int) -> None:
        super().__init__(model, spec, seed)
        self.average = AveragedModel(
            model.denoiser, multi_avg_fn=get_ema_multi_avg_fn(spec.average_decay), use_buffers=True
        )
        self.average.requires_grad_(False)
        self.schedule = noise_schedule(spec)

    def stage(self) -> nn.Module:
        return self.generator.denoiser

    def epochs_and_rate(self) -> tuple[int, float]:
        return self.spec.denoiser_epochs, self.spec.denoiser_learning_rate

    def loss(self, batch: Batch) -> Tensor:
        steps = torch.randint(self.spec.timesteps, (len(batch[0]),), generator=(g := self.draws(*self._now())))
        if self.spec.transforms:
            with torch.no_grad():
                batch = (torch.cat(self.generator.autoencoder.encode(batch[0]), dim=1), batch[1])
        return self._loss(self.generator.denoiser, batch, steps, g)

    def validation_loss(self, batch: Batch, index: int) -> Tensor:
        # The same noise after every epoch, and steps that are spread over the whole schedule.
        rows = torch.arange(len(batch[0]))
        steps = (rows * self.spec.timesteps) // len(rows)
        return self._loss(self.average.module, batch, steps, self.draws(VALIDATION, index))

    def on_train_batch_end(self, *_args: Any) -> None:
        self.average.update_parameters(self.generator.denoiser)

    def _now(self) -> tuple[int, int]:
        return DENOISER, self.global_step

    def _loss(self, denoiser: nn.Module, batch: Batch, steps: Tensor, draws: torch.Generator) -> Tensor:
        posteriors, labels = batch
        mean, log_variance = posteriors.chunk(2, dim=1)
        noises = torch.randn((2, *mean.shape), generator=draws).to(mean.device)
        clean = self.generator.scaled(sample_latents(mean, log_variance, noises[0]))
        steps = steps.to(mean.device)
        noisy = self.schedule.add_noise(clean, noises[1], steps)
        velocity = self.spec.prediction == "v_prediction"
        wanted = self.schedule.get_velocity(clean, noises[1], steps) if velocity else noises[1]
        return nn.functional.mse_loss(denoiser(noisy, steps, labels), wanted)
