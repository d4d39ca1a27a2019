"""The features of a split in the plane, before and after the training (t-SNE), and how well they tell classes apart."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from qhybrid.errors import InputError
from qhybrid.experiments.model import build_classifier
from qhybrid.experiments.pretraining import Pretrained
from qhybrid.experiments.run_folder import Features, Run
from qhybrid.experiments.spec import DeviceChoice
from qhybrid.experiments.training import backbone_features
from qhybrid.experiments.training_data import load_data
from qhybrid.storage import read_arrays, write_arrays

MOST = 1000
"""Images at most: t-SNE of more says no more."""
PERPLEXITY = 30.0
NAMES = ("before", "after", "labels", "neighbours")


@dataclass(frozen=True)
class Embedding:
    """The same images twice in the plane; distances in one picture say nothing about those in the other."""

    before: NDArray[np.float64]
    """(N, 2), features that the first weights make."""
    after: NDArray[np.float64]
    """(N, 2), features that the trained weights make."""
    labels: NDArray[np.int64]
    """(N,)"""
    neighbours: tuple[float, float]
    """Before and after: share of the images whose nearest neighbour, by their features, is of the same class."""


def feature_embedding(run: Run, split: str = "test") -> Embedding:
    """Put what the head receives into the plane, with the first weights of a run and with its trained ones, once.

    The first weights are random, or those of its pretraining. What was computed stays in the run's
    `features/embedding-<split>.npz`.

    Args:
        run: A complete run; its images and pretrained weights must be where they were.
        split: Whose images; at most 1000 of them, drawn class by class.

    Raises:
        InputError: The images or the weights are gone or have changed.
    """
    path = run.path / "features" / f"embedding-{split}.npz"
    if path.is_file():
        kept = read_arrays(path, NAMES)
        low, high = kept["neighbours"].tolist()
        return Embedding(kept["before"], kept["after"], kept["labels"], (low, high))
    stored = run.features(split)
    after, before = stored.drawn(MOST, seed=0), _first_features(run, split).drawn(MOST, seed=0)
    if not np.array_equal(after.ids, before.ids):
        raise InputError(f"the {split} images of {run.data['source']!r} have other names than in the training")
    found = Embedding(
        in_the_plane(before.features),
        in_the_plane(after.features),
        after.labels,
        (same_class_neighbours(before), same_class_neighbours(after)),
    )
    arrays = {name: np.asarray(getattr(found, name)) for name in NAMES}
    write_arrays(path, arrays)
    return found


def in_the_plane(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """t-SNE (van der Maaten and Hinton, JMLR 9, 2008) by scikit-learn, from the principal components, seeded.

    Args:
        features: (N, F), N of two at least. Their common scale does not matter.

    Returns:
        (N, 2).
    """
    from sklearn.manifold import TSNE

    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    scale = float(centred.std())
    scaled = centred / scale if scale > 0 else centred
    perplexity = max(1.0, min(PERPLEXITY, (len(scaled) - 1) / 3))
    start = scaled @ np.linalg.svd(scaled, full_matrices=False)[2][:2].T
    if start.shape[1] < 2:  # one feature
        start = np.pad(start, ((0, 0), (0, 2 - start.shape[1])))
    spread = float(start[:, 0].std())
    start = start / spread * 1e-4 if spread > 0 else start
    plane = TSNE(perplexity=perplexity, init=start, learning_rate="auto", random_state=0).fit_transform(scaled)
    return np.asarray(plane, dtype=np.float64)


def same_class_neighbours(features: Features) -> float:
    """Share of the images whose nearest neighbour among the others has their class (Euclidean; ties: the first)."""
    points = features.features.astype(np.float64)
    squares = (points**2).sum(axis=1)
    distances = squares[:, None] + squares[None] - 2 * points @ points.T
    np.fill_diagonal(distances, np.inf)
    return float((features.labels[distances.argmin(axis=1)] == features.labels).mean())


def _first_features(run: Run, split: str) -> Features:
    """What the first weights make of the images of a split."""
    spec = run.spec
    if run.data["source"] != spec.data.source:  # said before a large source is read
        raise InputError(f"the run was trained on {run.data['source']!r}, not on {spec.data.source!r}")
    model_spec = spec.model
    if model_spec.weights == "pretrained":
        made = Pretrained(Path(run.data["pretrained"]["path"]))
        model_spec = model_spec.model_copy(update={"weights": str(made.weights)})
    classifier = build_classifier(
        model_spec,
        n_classes=len(run.class_names),
        circuit=run.circuit,
        device=DeviceChoice(name="qhybrid.statevector"),
        seed=spec.train.seed,
    )
    dataset, _ = load_data(spec, Console(quiet=True))
    if dataset.fingerprint() != run.data["fingerprint"]:
        raise InputError(f"the images of {dataset.name!r} have changed since the training")
    return backbone_features(classifier, dataset.splits[split])
