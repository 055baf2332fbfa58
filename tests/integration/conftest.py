"""Fixture for tests of real processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.cluster import Cluster


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Yield an empty cluster, and kill its remaining processes at the end."""
    with Cluster() as cluster:
        yield cluster
