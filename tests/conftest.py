"""What tests of real processes are given."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stage import Stage


@pytest.fixture
def stage() -> Iterator[Stage]:
    """An empty stage; whoever is left on it at the end is killed."""
    with Stage() as stage:
        yield stage
