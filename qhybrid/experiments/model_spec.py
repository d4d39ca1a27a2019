"""The `[model]` table of an experiment: CNN, head, circuit."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from qhybrid.catalog import none_as_text
from qhybrid.errors import did_you_mean

Backbone = Literal["mobilenet_v2", "resnet18", "densenet121", "vgg16", "cnn5"]
Head = Literal[
    "quantum", "quantum-separable", "quantum-frozen", "tt-quantum", "vqc-mlp", "linear", "mlp", "quadratic"
]  # fmt: skip
Attention = Literal["none", "features"]
Fusion = Literal["replace", "concat", "residual"]
NAMED_WEIGHTS = ("none", "imagenet", "pretrained")
WEIGHT_FILES = (".safetensors", ".pth", ".pt")


class ModelSpec(BaseModel):
    """The classifier: backbone -> Linear + ReLU -> head."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    backbone: Backbone = "mobilenet_v2"
    """The CNN whose features are used: torchvision's, or `cnn5`, five convolutions of 70 thousand parameters."""
    weights: str = "none"
    """`none`: random; `imagenet`: torchvision's, downloaded once; `pretrained`: by the experiment's own `[pretrain]`,
    found or made before the training; else a local .safetensors or .pth file."""
    feature_dim: int = Field(default=256, ge=1, le=65536)
    """Width of the features that the head receives (256 in the paper)."""
    head: Head = "quantum"
    """`quantum`: the circuit; `quantum-separable`: the circuit without its entangling gates; `quantum-frozen`: the
    circuit with the weights that were drawn; `tt-quantum`: a tensor train in place of the circuit's projection;
    `vqc-mlp`: two layers, the weights of the first made by the circuit during training; `linear`: one layer; `mlp`: two
    layers about as large as the quantum head; `quadratic`: a free quadratic form about as large, for circuits that
    begin with amplitude encoding."""
    circuit: str = "angle_4q"
    """Name in the catalog or path of the circuit of a quantum head; `mlp` and `quadratic` are matched to it."""
    attention: Attention = "none"
    """What the expectation values of a quantum head do: `none`: they are what the last layer receives; `features`:
    their softmax weights the features that the circuit encodes, and the last layer receives these."""
    fusion: Fusion = "replace"
    """What the last layer of a quantum or `mlp` head receives: `replace`: the values of the circuit, or of the hidden
    layer, alone; `concat`: the features and, beside them, these values; `residual`: the features plus these values,
    which a linear layer brings to their width."""
    angle_spread: Annotated[float | None, Field(gt=0, le=100), BeforeValidator(none_as_text)] = None
    """Batch-normalise the projected features of a quantum or quadratic head to this standard deviation, so that the
    angles start where the circuit responds; None: take them as they are, like the paper."""
    classifier_gain: float = Field(default=1.0, gt=0, le=1000)
    """Factor on the first weights of a quantum or quadratic head's last layer. Expectation values are small at first:
    with a larger factor a CNN that starts from random weights leaves its plateau sooner."""
    tt_rank: Annotated[int | None, Field(ge=1, le=4096), BeforeValidator(none_as_text)] = None
    """Rank of the tensor train of a `tt-quantum` head; None: 4."""
    hidden_units: Annotated[int | None, Field(ge=1, le=65536), BeforeValidator(none_as_text)] = None
    """Hidden units of a `vqc-mlp` head (None: 16), or of an `mlp` head (None: about as many parameters as the quantum
    head has)."""

    @model_validator(mode="after")
    def _something_to_fuse(self) -> "ModelSpec":
        if self.fusion != "replace" and not (self.is_quantum or self.head == "mlp"):
            raise ValueError(f"fusion = {self.fusion!r} is for quantum heads and 'mlp', not for {self.head!r}")
        return self

    @model_validator(mode="after")
    def _weights_of_its_own(self) -> "ModelSpec":
        if self.backbone == "cnn5" and self.weights == "imagenet":
            raise ValueError("backbone 'cnn5' has no ImageNet weights: give weights = 'none' or a file of your own")
        return self

    @property
    def is_quantum(self) -> bool:
        """Whether samples go through a quantum layer."""
        return self.head.startswith("quantum") or self.head == "tt-quantum"

    @property
    def has_circuit(self) -> bool:
        """Whether a circuit is trained: samples go through it, or it makes weights."""
        return self.is_quantum or self.head == "vqc-mlp"

    @property
    def without_quantum_layer(self) -> str:
        """What a head is that sees samples without a quantum layer, for the refusal of what takes one."""
        if self.has_circuit:
            return f"a {self.head} head, whose circuit makes weights and sees no sample"
        return f"a {self.head} head without a quantum layer"

    @field_validator("weights")
    @classmethod
    def _name_or_file(cls, weights: str) -> str:
        if weights in NAMED_WEIGHTS or Path(weights).suffix in WEIGHT_FILES:
            return weights
        near = did_you_mean(weights, NAMED_WEIGHTS)
        raise ValueError(f"weights {weights!r} is neither a name nor a {'/'.join(WEIGHT_FILES)} file; {near}")
