"""The classifier: normalised image -> CNN -> pooling -> Linear + ReLU -> head."""

from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from qhybrid.circuits.spec import load_circuit
from qhybrid.errors import InputError
from qhybrid.experiments.backbones import build_backbone, normalisation
from qhybrid.experiments.heads import ClassifierHead, build_head, count_parameters, quantum_head_parameters
from qhybrid.experiments.seeding import derive_seed
from qhybrid.experiments.spec import DeviceChoice, ModelSpec
from qhybrid.storage import write_bytes

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class HybridClassifier(nn.Module):
    """A CNN in front of a head; the two run apart as well, so that a device needs no CNN (SDA-QEC, Eq. 5-6)."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        cnn: nn.Module,
        head: ClassifierHead,
        *,
        width: int,
        feature_dim: int,
        normalised_by: tuple[Tensor, Tensor],
    ) -> None:
        super().__init__()
        # Buffers, so that a saved model knows how its images were normalised.
        self.register_buffer("mean", normalised_by[0])
        self.register_buffer("std", normalised_by[1])
        # channels_last halves the time of a step on a CPU.
        self.cnn = cnn.to(memory_format=torch.channels_last)
        self.neck = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, feature_dim), nn.ReLU())
        self.head = head

    def pooled_features(self, images: Tensor) -> Tensor:
        """The last feature map of the CNN, averaged over the image.

        Args:
            images: (B, 3, H, W) in [0, 1].

        Returns:
            (B, K), K channels.
        """
        normalised = (images - self.mean) / self.std
        pooled: Tensor = self.neck[:2](self.cnn(normalised.contiguous(memory_format=torch.channels_last)))
        return pooled

    def backbone_features(self, images: Tensor) -> Tensor:
        """What the head receives.

        Args:
            images: (B, 3, H, W) in [0, 1].

        Returns:
            (B, feature_dim), not negative.
        """
        features: Tensor = self.neck[2:](self.pooled_features(images))
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> logits (B, C)."""
        logits: Tensor = self.head(self.backbone_features(images))
        return logits


def build_classifier(
    spec: ModelSpec, *, n_classes: int, circuit: str, device: DeviceChoice, seed: int = 0
) -> HybridClassifier:
    """Build a classifier with its first weights.

    CNN and head draw from seeds of their own: two heads start on the same CNN, two devices on the same everything.

    Args:
        spec: The model.
        n_classes: Number of classes.
        circuit: Catalog name or path of the circuit, which a run keeps a copy of.
        device: What runs the quantum layer.
        seed: Of all first weights.

    Returns:
        The classifier. torch's global generator is left as it was.

    Raises:
        InputError: The circuit, the device or the weights file is wrong, or the download failed.
    """
    head = build_head(spec, n_classes=n_classes, circuit=circuit, device=device, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "backbone"))
        cnn, width = build_backbone(spec.backbone, spec.weights)
        return HybridClassifier(
            cnn,
            head,
            width=width,
            feature_dim=spec.feature_dim,
            normalised_by=normalisation(spec.weights),
        )


def parameter_counts(model: HybridClassifier, spec: ModelSpec, *, circuit: str, n_classes: int) -> dict[str, int]:
    """Count parameters, so that a head and its rival can be compared.

    Returns:
        Trainable ones: `backbone` (CNN and Linear), `head`, `total`; `frozen`: weights of the head that were drawn and
        stay; and `quantum_head`: what a quantum head with this circuit trains, which is what classical heads are
        matched to.
    """
    head, total = count_parameters(model.head), count_parameters(model)
    matched = quantum_head_parameters(spec.feature_dim, load_circuit(circuit), n_classes, fusion=spec.fusion)
    frozen = count_parameters(model.head, trainable=False)
    return {"backbone": total - head, "head": head, "total": total, "frozen": frozen, "quantum_head": matched}


def save_weights(module: nn.Module, path: Path, *, best_epoch: int | None = None) -> None:
    """Write a module's state as safetensors, in one piece; equal states give equal bytes.

    Args:
        module: What to save.
        path: The file.
        best_epoch: Noted in the file's metadata.
    """
    from safetensors.torch import save

    # safetensors takes neither shared nor channels_last memory.
    state = {key: value.detach().cpu().contiguous().clone() for key, value in module.state_dict().items()}
    # One entry only: safetensors writes several in any order.
    content = save(state, metadata=None if best_epoch is None else {"best_epoch": str(best_epoch)})
    write_bytes(path, content)


def load_weights(module: ModuleT, path: Path, *, prefix: str = "") -> ModuleT:
    """Fill a module from a safetensors file.

    Args:
        module: Changed in place.
        path: The file.
        prefix: Of the names in the file; other tensors in it are left alone.

    Returns:
        The module.

    Raises:
        InputError: The file is missing or damaged, a tensor is missing or has another shape, or a value is not
            finite; the module is then unchanged.
    """
    from safetensors import SafetensorError, safe_open

    wanted = module.state_dict()
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            missing = [key for key in wanted if prefix + key not in names]
            if missing:
                raise InputError(f"{path}: has no tensor {prefix + missing[0]!r}; it is of another model")
            state = {key: file.get_tensor(prefix + key) for key in wanted}
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{path}: does not exist") from None
    except (SafetensorError, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: damaged, not readable as safetensors ({error})") from None
    for key, value in state.items():
        if value.shape != wanted[key].shape:
            shapes = f"{tuple(value.shape)}, not {tuple(wanted[key].shape)}"
            raise InputError(f"{path}: tensor {prefix + key!r} is {shapes}; it is of another model")
        if not torch.isfinite(value).all():
            raise InputError(f"{path}: tensor {prefix + key!r} holds values that are not finite")
    module.load_state_dict(state)
    return module
