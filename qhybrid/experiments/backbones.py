"""The CNNs: torchvision's without their classifiers, `cnn5`, and their weights."""

import json
import pickle
import re
import sys
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qhybrid.errors import InputError
from qhybrid.experiments.cnn5 import WIDTHS, cnn5
from qhybrid.experiments.spec import Backbone
from qhybrid.storage import write_bytes

CLASSIFIERS = ("classifier.", "fc.")  # the part of a torchvision model that is left out
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMALISATION = "normalisation"  # of the metadata of a weights file
PLAIN_MEAN, PLAIN_STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def build_backbone(name: Backbone, weights: str) -> tuple[nn.Module, int]:
    """Build a CNN up to its last feature map.

    Args:
        name: Which CNN.
        weights: `none`, `imagenet`, or a local .safetensors, .pth or .pt file of the same CNN.

    Returns:
        The CNN, (B, 3, H, W) -> (B, K, h, w), and K. Random weights come from torch's global generator.

    Raises:
        InputError: The weights cannot be downloaded, or the file is missing, damaged or of another CNN.
    """
    model = _model(name)
    if weights == "imagenet":
        _fill(model, _download(name), f"torchvision weights of {name}", name)
    elif weights != "none":
        _fill(model, read_weights(Path(weights).expanduser()), weights, name)
    cut, width = CUTS[name]
    return cut(model), width


def _model(name: Backbone) -> nn.Module:
    if name == "cnn5":
        return cnn5()
    import torchvision

    model: nn.Module = getattr(torchvision.models, name)(weights=None)
    return model


def normalisation(weights: str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, each (3, 1, 1), by which images in [0, 1] are normalised.

    Args:
        weights: `none`: .5 and .25, which suits X-rays; a file that says how its images were normalised
            (`write_backbone`): so; anything else: those of ImageNet.

    Raises:
        InputError: The file says something else than six numbers.
    """
    noted = _noted_normalisation(Path(weights).expanduser()) if weights.endswith(".safetensors") else None
    usual = (PLAIN_MEAN, PLAIN_STD) if weights == "none" else (IMAGENET_MEAN, IMAGENET_STD)
    mean, std = noted or usual
    return torch.tensor(mean).reshape(3, 1, 1), torch.tensor(std).reshape(3, 1, 1)


def write_backbone(name: Backbone, cnn: nn.Module, path: Path, normalised_by: tuple[Tensor, Tensor]) -> None:
    """Write the weights of a CNN under torchvision's names, for `model.weights`.

    Args:
        name: Which CNN.
        cnn: From `build_backbone`.
        path: A .safetensors file.
        normalised_by: Mean and standard deviation of the images that it was trained on, noted in the file.
    """
    from safetensors.torch import save

    with torch.random.fork_rng(devices=[]):
        whole = _model(name)
    CUTS[name][0](whole).load_state_dict(cnn.state_dict())
    state = {
        key: value.detach().cpu().contiguous().clone()
        for key, value in whole.state_dict().items()
        if not key.startswith(CLASSIFIERS)
    }
    noted = {key: values.flatten().tolist() for key, values in zip(("mean", "std"), normalised_by, strict=True)}
    write_bytes(path, save(state, metadata={NORMALISATION: json.dumps(noted)}))


def _noted_normalisation(path: Path) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """What the file says of it; None: nothing, or it cannot be read, which `read_weights` tells."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            noted = (file.metadata() or {}).get(NORMALISATION)
    except (SafetensorError, OSError, ValueError):
        return None
    if noted is None:
        return None
    try:
        found = json.loads(noted)
        mean, std = (tuple(float(number) for number in found[key]) for key in ("mean", "std"))
        if len(mean) == len(std) == 3 and all(map(isfinite, mean)) and all(0 < number < 1e6 for number in std):
            return mean, std
    except (ValueError, TypeError, KeyError):
        pass
    raise InputError(f"{path}: damaged, its {NORMALISATION} is not a mean and a std of three numbers each")


def _features(model: Any) -> nn.Module:
    features: nn.Module = model.features
    return features


def _whole(model: nn.Module) -> nn.Module:
    return model


def _densenet(model: Any) -> nn.Module:
    return nn.Sequential(model.features, nn.ReLU())  # torchvision applies this ReLU outside `features`


def _resnet(model: nn.Module) -> nn.Module:
    return nn.Sequential(*[part for name, part in model.named_children() if name not in ("avgpool", "fc")])


CUTS: dict[Backbone, tuple[Callable[[nn.Module], nn.Module], int]] = {
    "mobilenet_v2": (_features, 1280),
    "resnet18": (_resnet, 512),
    "densenet121": (_densenet, 1024),
    "vgg16": (_features, 512),
    "cnn5": (_whole, WIDTHS[-1]),
}


def _download(name: Backbone) -> dict[str, Tensor]:
    import torchvision

    weights = torchvision.models.get_model_weights(name).DEFAULT
    try:
        # weights_only: what comes from the network is data, not code.
        state: dict[str, Tensor] = weights.get_state_dict(
            progress=sys.stderr.isatty(), check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"weights 'imagenet' of {name} cannot be downloaded ({reason}): fetch {weights.url} elsewhere and give "
            "the file with --set model.weights=PATH, or train from random weights with --set model.weights=none"
        ) from None
    return state


def read_weights(path: Path, where: str = "model.weights") -> dict[str, Tensor]:
    """Read a table of tensors, never running code that is in the file.

    Args:
        path: A .safetensors, .pth or .pt file.
        where: The setting that names it, for the error.

    Raises:
        InputError: The file is missing, damaged, would need unpickling, or holds something else.
    """
    if not path.is_file():
        raise InputError(f"{where}: file {str(path)!r} does not exist")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for damaged or hostile files
        # Of torch's advice only the first sentence: the rest recommends to run the file's code.
        reason = (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0]
        raise InputError(f"{path}: not readable as weights without running code ({reason})") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: holds no table of tensors (a torchvision state_dict)")
    return state


def _fill(model: nn.Module, state: dict[str, Tensor], where: str, name: str) -> None:
    # torchvision's DenseNet files still have the names of its first version.
    renamed = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.", r"\1\2.", key): value for key, value in state.items()}
    wanted = {key: value for key, value in model.state_dict().items() if not key.startswith(CLASSIFIERS)}
    for key, value in wanted.items():
        if key not in renamed:
            if key.endswith("num_batches_tracked"):  # a counter that old files lack and inference ignores
                renamed[key] = value
                continue
            raise InputError(f"{where}: has no tensor {key!r}: these are not weights of {name}")
        if renamed[key].shape != value.shape:
            shapes = f"{tuple(renamed[key].shape)}, not {tuple(value.shape)}"
            raise InputError(f"{where}: tensor {key!r} is {shapes}: these are not weights of {name}")
        if not torch.isfinite(renamed[key]).all():
            raise InputError(f"{where}: tensor {key!r} holds values that are not finite")
    model.load_state_dict({key: renamed[key] for key in wanted}, strict=False)
