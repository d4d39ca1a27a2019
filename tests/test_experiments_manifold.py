"""Precision and recall, and nearest training images, against what others compute."""

import numpy as np
import pytest
import torch

from qhybrid.data.dataset import Split
from qhybrid.errors import InputError
from qhybrid.experiments.manifold import precision_and_recall
from qhybrid.experiments.nearest_images import CopyTest, nearest


def clouds(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(40, 5)), 0.6 + 0.7 * rng.normal(size=(30, 5))


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_are_those_of_the_definition(k: int) -> None:
    real, other = clouds(0)

    def on_manifold(point: np.ndarray, cloud: np.ndarray) -> bool:
        for centre in cloud:
            others = sorted(np.linalg.norm(centre - each) for each in cloud)
            if np.linalg.norm(point - centre) <= others[k]:
                return True
        return False

    precision, recall = precision_and_recall(real, other, k=k)
    assert precision == np.mean([on_manifold(point, real) for point in other])
    assert recall == np.mean([on_manifold(point, other) for point in real])


def test_precision_and_recall_are_those_of_torch_fidelity() -> None:
    prc = pytest.importorskip("torch_fidelity.metric_prc")
    real, other = clouds(1)
    theirs = prc.prc_features_to_metric(
        torch.from_numpy(other), torch.from_numpy(real), prc_neighborhood=3, prc_batch_size=16, save_cpu_ram=False,
        verbose=False,
    )  # fmt: skip
    precision, recall = precision_and_recall(real, other)
    assert precision == pytest.approx(theirs["precision"])
    assert recall == pytest.approx(theirs["recall"])


def test_precision_and_recall_need_more_images_than_neighbours() -> None:
    real, other = clouds(2)
    assert precision_and_recall(real, real) == (1, 1)
    with pytest.raises(InputError, match="more than k = 3"):
        precision_and_recall(real, other[:3])


def test_the_nearest_image_is_found_and_its_distance_is_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    references = torch.rand(600, 1, 6, 6, generator=generator)
    images = torch.cat([torch.rand(20, 1, 6, 6, generator=generator), references[7:8], references[599:] + 1e-6])
    distances, place = nearest(images, references)
    flat, known = images.flatten(1).double().numpy(), references.flatten(1).double().numpy()
    expected = np.sqrt(((flat[:, None] - known[None]) ** 2).mean(-1))
    assert place.tolist() == expected.argmin(1).tolist()
    np.testing.assert_allclose(distances.numpy(), expected.min(1), rtol=1e-12, atol=0)
    own, neighbour = nearest(references, references, apart_from_itself=True)
    assert (neighbour != torch.arange(600)).all()
    assert (own > 0).all()
    twice, copy = nearest(references[[3, 4, 3]], references[[3, 4, 3]], apart_from_itself=True)
    assert (twice[0], int(copy[0])) == (0, 2)


def test_copies_are_nearer_than_training_images_are_to_one_another() -> None:
    generator = torch.Generator().manual_seed(1)
    pixels = (255 * torch.rand(50, 1, 8, 8, generator=generator)).to(torch.uint8)
    training = Split(pixels, torch.zeros(50, dtype=torch.int64), tuple(map(str, range(50))), 8)
    test = CopyTest.of(training, 0.01)
    originals = training.batch()[:, :1]
    noise = torch.rand(50, 1, 8, 8, generator=generator)
    assert test.copies(originals).all()
    assert test.copies(originals + 0.01 * noise).all()
    assert test.copies(noise).sum() <= 2  # about one in a hundred of what is drawn from the same distribution
