"""Training that makes features the same in all centres: domain-adversarial, and consistent between centres."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from qhybrid.data.centres import CentreSplit
from qhybrid.data.centres_spec import DomainsSpec
from qhybrid.data.dataset import Split
from qhybrid.data.transforms import TransformFunction
from qhybrid.experiments.batches import TrainingImages
from qhybrid.experiments.model import HybridClassifier
from qhybrid.experiments.seeding import derive_seed
from qhybrid.experiments.spec import ExperimentSpec, TrainSpec
from qhybrid.experiments.training_module import TrainingModule

DomainBatch = tuple[Tensor, Tensor, Tensor]
SLOPE = 10.0
"""gamma of Ganin and Lempitsky's schedule."""


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        return -ctx.factor * gradients[0], None


def reverse_gradient(features: Tensor, factor: float) -> Tensor:
    """The gradient reversal layer (Ganin and Lempitsky, ICML 2015, Eq. 9-10).

    Args:
        features: Any shape.
        factor: lambda, not negative.

    Returns:
        The same values; what comes back through them is multiplied by -factor.
    """
    return cast(Tensor, _Reversal.apply(features, factor))


def reversal_factor(spec: DomainsSpec, progress: float) -> float:
    """The factor of the gradient reversal in one step.

    Args:
        spec: Its `adversarial` is the largest, its `adversarial_schedule` says how it is reached.
        progress: p, share of all steps that are done, 0 to 1.
    """
    if spec.adversarial_schedule == "constant":
        return spec.adversarial
    return spec.adversarial * (2 / (1 + math.exp(-SLOPE * progress)) - 1)


def divergence(logits: Tensor, others: Tensor, *, kind: str) -> Tensor:
    """How far two predictions of the same images are apart, mean over the images, in nats.

    Args:
        logits: (B, C).
        others: (B, C).
        kind: `jensen-shannon`: (KL(p|m) + KL(q|m)) / 2 with m = (p + q) / 2; `symmetric-kl`: (KL(p|q) + KL(q|p)) / 2.
    """
    p, q = torch.log_softmax(logits, dim=1), torch.log_softmax(others, dim=1)
    middle = torch.logaddexp(p, q) - math.log(2) if kind == "jensen-shannon" else None
    one, two = (q, p) if middle is None else (middle, middle)
    return ((p.exp() * (p - one)).sum(dim=1) + (q.exp() * (q - two)).sum(dim=1)).mean() / 2


class DomainImages(TrainingImages):
    """Training images with their centres and, if asked for, each a second time as another training centre sees it.

    Both views of an image have the same random transforms, so that only the centre is between them.
    """

    def __init__(
        self, splits: Sequence[CentreSplit], transform: TransformFunction | None, seed: int, spec: DomainsSpec
    ) -> None:
        super().__init__(splits, transform, seed)
        self.training = torch.tensor(spec.training)
        self.second_view = spec.consistency > 0

    def __getitems__(self, keys: Sequence[int]) -> DomainBatch:  # type: ignore[override]
        """One whole batch: images (B or 2B, 3, S, S), second views last; labels (B,); centre of each image, numbered
        from 0 among the training centres, (B or 2B,)."""
        images, labels = super().__getitems__(keys)
        centres = torch.empty(len(keys), dtype=torch.int64)
        for split, rows, inside in self.places(keys):
            assert isinstance(split, CentreSplit)
            centres[rows] = torch.searchsorted(self.training, split.centres[inside])
        if not self.second_view:
            return images, labels, centres
        others = (centres + self._shifts(keys)) % len(self.training)
        seen: list[Tensor] = [torch.empty(0)] * len(keys)
        for split, rows, inside in self.places(keys):
            assert isinstance(split, CentreSplit)
            views = split.seen_in(inside, self.training[others[rows]])
            for row, image in zip(rows.tolist(), views, strict=True):
                seen[row] = image
        return torch.cat([images, self.varied(seen, keys)]), labels, torch.cat([centres, others])

    def _shifts(self, keys: Sequence[int]) -> Tensor:
        """How many centres further the second view of each image is from, 1 to K - 1; one draw an epoch."""
        key = torch.as_tensor(keys)
        shifts = torch.empty_like(key)
        for epoch in (key // len(self)).unique().tolist():
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "views", epoch))
            drawn = torch.randint(1, len(self.training), (len(self),), generator=generator)
            rows = key // len(self) == epoch
            shifts[rows] = drawn[key[rows] % len(self)]
        return shifts


@dataclass
class DomainSums:
    """What the domain terms of an epoch were so far, added up."""

    correct: float = 0.0
    views: int = 0
    consistency: float = 0.0
    images: int = 0


class DomainTrainingModule(TrainingModule):
    """The loss of `TrainingModule` and, of the features and predictions, what tells centres apart.

    loss = cross entropy + cross entropy of the domain classifier on reversed features + consistency * divergence. The
    domain classifier is trained with the network; it is in checkpoints, and in no model.
    """

    def __init__(self, classifier: HybridClassifier, spec: TrainSpec, domains: DomainsSpec) -> None:
        super().__init__(classifier, spec)
        self.domains = domains
        self.domain_sums = DomainSums()
        self.domain_classifier: nn.Module | None = None
        if domains.adversarial:
            width = classifier.neck[2].out_features
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derive_seed(spec.seed, "domains"))
                self.domain_classifier = nn.Sequential(
                    nn.Linear(int(width), domains.domain_units),  # type: ignore[arg-type]
                    nn.ReLU(),
                    nn.Linear(domains.domain_units, len(domains.training)),
                )

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.domain_sums = DomainSums()

    def step_scores(self, batch: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        images, labels, centres = batch
        features = self._features(images)
        logits = self.classifier.head(features)
        own, others = logits[: len(labels)], logits[len(labels) :]
        accuracy = (own.argmax(dim=1) == labels).float().mean()
        added = own.new_zeros(())
        if self.domain_classifier is not None:
            factor = reversal_factor(self.domains, self._progress())
            told = self.domain_classifier(reverse_gradient(features, factor))
            added = added + functional.cross_entropy(told, centres)
            self.domain_sums.correct += float((told.argmax(dim=1) == centres).sum())
            self.domain_sums.views += len(centres)
        if len(others):
            apart = divergence(own, others, kind=self.domains.consistency_loss)
            added = added + self.domains.consistency * apart
            self.domain_sums.consistency += float(apart.detach()) * len(labels)
            self.domain_sums.images += len(labels)
        if self.trainer.is_last_batch:
            self._log_domains()
        return functional.cross_entropy(own, labels), accuracy, added

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["domain_sums"] = asdict(self.domain_sums)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.domain_sums = DomainSums(**checkpoint.get("domain_sums", {}))

    def _progress(self) -> float:
        return int(self.global_step) / (self.spec.epochs * int(self.trainer.num_training_batches))

    def _log_domains(self) -> None:
        sums = self.domain_sums
        scores = {}
        if sums.views:
            scores["domain_accuracy"] = sums.correct / sums.views
        if sums.images:
            scores["consistency"] = sums.consistency / sums.images
        self.log_dict(scores, on_step=False, on_epoch=True, batch_size=1, sync_dist=self.trainer.world_size > 1)


def training_images(
    spec: ExperimentSpec, splits: Sequence[Split], transform: TransformFunction | None
) -> TrainingImages:
    """What an experiment is trained on: with centres where their training needs them."""
    if spec.domains is None or not spec.domains.changes_training:
        return TrainingImages(splits, transform, spec.train.seed)
    return DomainImages(cast(Sequence[CentreSplit], splits), transform, spec.train.seed, spec.domains)


def training_module(spec: ExperimentSpec, classifier: HybridClassifier) -> TrainingModule:
    """What trains the classifier of an experiment."""
    if spec.domains is None or not spec.domains.changes_training:
        return TrainingModule(classifier, spec.train)
    return DomainTrainingModule(classifier, spec.train, spec.domains)
