"""`data.label_fraction`: the training images of an experiment that keep their label."""

from dataclasses import replace

from qhybrid.data.dataset import ImageDataset
from qhybrid.data.labels import labelled_part
from qhybrid.experiments.seeding import derive_seed
from qhybrid.experiments.spec import ExperimentSpec


def labelled(spec: ExperimentSpec, dataset: ImageDataset) -> ImageDataset:
    """The images of an experiment with those training images only that keep their label.

    Args:
        spec: Its `data.label_fraction` says how many, its `train.seed` which.
        dataset: All images.

    Returns:
        The very same data set where all keep it.
    """
    training = dataset.splits["train"]
    kept = labelled_part(training, spec.data.label_fraction, seed=derive_seed(spec.train.seed, "labels"))
    return dataset if kept is training else replace(dataset, splits=dataset.splits | {"train": kept})
