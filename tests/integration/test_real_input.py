"""Real input, compared with plain loops: Python's standard library, and the batch of the ZeroMQ guide."""

from __future__ import annotations

import hashlib
import os
import random
import re
from pathlib import Path

import pytest

from tests.integration.cluster import TASK_FUNCTIONS, Cluster
from tests.support.task_functions import words


@pytest.fixture(scope="module")
def library() -> list[str]:
    """Return all modules of the standard library, some thousand files, without installed packages."""
    found = Path(os.__file__).parent.rglob("*.py")
    return sorted(str(path) for path in found if "site-packages" not in path.parts and path.is_file())


def test_shell_command_hashes_the_standard_library(cluster: Cluster, library: list[str]) -> None:
    run = cluster.start("run", "sha256sum {}", tasks="\n".join(library))
    assert run.wait() == 0
    expected = [f"{hashlib.sha256(Path(path).read_bytes()).hexdigest()}  {path}" for path in library]
    assert len(expected) > 500
    assert run.lines == sorted(expected)
    assert f"pipe: {len(library):,} tasks, 0 failed, " in run.stderr


def test_callable_counts_the_standard_library_in_order(cluster: Cluster, library: list[str]) -> None:
    run = cluster.start("run", "--keep-order", "-w", "2", "--call", f"{TASK_FUNCTIONS}:words", tasks="\n".join(library))
    assert run.wait() == 0
    assert run.stdout.splitlines() == [str(words(path)) for path in library]
    assert f"pipe: {len(library):,} tasks, 0 failed, " in run.stderr


def test_bytes_of_any_encoding_come_back_in_a_c_locale(cluster: Cluster) -> None:
    lines = "ä\n".encode() + b"caf\xe9\n\xff\xfe\n\n"
    cluster.path("tasks").write_bytes(lines)
    words = ("run", "-k", "-q", "-o", "out", "-a", "tasks", "--call", "builtins:str")
    run = cluster.start(*words, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert run.wait() == 0, run.stderr
    assert cluster.path("out").read_bytes() == lines


def test_guide_batch_reports_its_elapsed_time(cluster: Cluster) -> None:
    chance = random.Random(5557)
    costs = [chance.randint(1, 100) for _ in range(100)]
    sink, work = cluster.start("sink"), [cluster.start("work", "-j", "4", "sleep {}; echo {}") for _ in range(2)]
    vent = cluster.start("ventilate", tasks="".join(f"{cost / 1000}\n" for cost in costs))
    assert [sink.wait(), vent.wait(), *(worker.wait() for worker in work)] == [0, 0, 0, 0]
    assert sink.lines == sorted(str(cost / 1000) for cost in costs)
    summary = re.fullmatch(r"pipe: 100 tasks, 0 failed, (\d+\.\d) s, [\d.,]+ tasks/s", sink.stderr.splitlines()[-1])
    assert summary, sink.stderr
    assert float(summary[1]) >= round(sum(costs) / 1000 / 8, 1) - 0.1
