"""A head alone, without a network before it."""

from qhybrid.experiments.heads import ClassifierHead, build_head
from qhybrid.experiments.spec import DeviceChoice, ModelSpec


def small_head(
    head: str, circuit: str = "angle_4q", *, n_classes: int = 2, seed: int = 0, **model: object
) -> ClassifierHead:
    """A head of 256 features on the exact simulator; `model` are further settings of `[model]`."""
    spec = ModelSpec(head=head, circuit=circuit, **{"feature_dim": 256, **model})
    device = DeviceChoice(name="qhybrid.statevector")
    return build_head(spec, n_classes=n_classes, circuit=circuit, device=device, seed=seed)
