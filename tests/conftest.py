"""What all tests share."""

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: sums in one order, wherever a training runs


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """ISA circuits are kept in a cache of the tests' own, so that none comes from an earlier version."""
    kept = os.environ.get("QHYBRID_CACHE")
    os.environ["QHYBRID_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if kept is None:
        del os.environ["QHYBRID_CACHE"]
    else:
        os.environ["QHYBRID_CACHE"] = kept
