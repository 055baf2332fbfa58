"""A fixture for tests of real processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.cluster import Cluster


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """An empty cluster; each process that is left in it at the end is killed."""
    with Cluster() as cluster:
        yield cluster
