"""Improved precision and recall: how many images lie on the manifold of others (Kynkaanniemi et al., 2019)."""

import numpy as np
from scipy.spatial.distance import cdist

from qhybrid.errors import InputError
from qhybrid.experiments.image_quality import Floats

NEIGHBOURS = 3
"""k, as in the paper."""


def precision_and_recall(real: Floats, other: Floats, *, k: int = NEIGHBOURS) -> tuple[float, float]:
    """Shares of images that lie in a ball round an image of the other set, which reaches to its k-th neighbour there.

    Precision: of the others in a ball of real ones, which look real. Recall: of the real ones in a ball of others,
    which the others cover. Both rise with fewer images, whose balls are larger: compare equal numbers only.

    Args:
        real: (N, d) features of real images, N above k.
        other: (M, d) of others, M above k.
        k: Neighbours.

    Returns:
        Precision and recall (Eq. 2).

    Raises:
        InputError: There are too few images.
    """
    if not 1 <= k < min(len(real), len(other)):
        raise InputError(f"{len(real)} and {len(other)} images: precision and recall need more than k = {k} of each")
    between = cdist(real, other)
    in_real = between <= _radii(real, k)[:, None]
    in_other = between <= _radii(other, k)[None, :]
    return float(in_real.any(axis=0).mean()), float(in_other.any(axis=1).mean())


def _radii(features: Floats, k: int) -> Floats:
    # The image itself comes first, at distance 0.
    return np.asarray(np.partition(cdist(features, features), k, axis=1)[:, k])
