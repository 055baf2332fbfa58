"""Descriptors that unit tests leave open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import pytest


@pytest.fixture(autouse=True)
def close_files_of_simulated_crashes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Close the descriptors of files in `tmp_path` after a test.

    A crash is simulated by dropping the adapter, so its files stay open. A thousand of them would be too many for
    select(), in tests that run later in the same process.
    """
    folder = os.path.join(str(request.getfixturevalue("tmp_path")), "") if "tmp_path" in request.fixturenames else ""
    yield
    if not folder:
        return
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith(folder):
                os.close(int(name))
