"""Sample of `scripts/chaos`: stations killed at a failpoint, random faults, a partition, a detected fault."""

from __future__ import annotations

import pytest

from tests.integration.chaos import (
    RESTARTS_SINK,
    STATION_COMMANDS,
    RunningStations,
    check_run,
    record_points,
    run_launcher_with_failpoint,
    run_with_failpoint,
    write_tasks,
)
from tests.integration.cluster import Cluster
from tests.integration.oracle import find_violations
from tests.integration.partition import run_with_partition, unavailable_reason
from tests.integration.random_faults import plan_faults, run_with_faults

NO_PARTITIONS = unavailable_reason()
AT_THE_SINK = "sink.write-result-sent:2 sink.journal-entry-sent:2 sink.committed-received:3 sink.kill-sent:1".split()
SAMPLE = (
    "worker.chunk-received:2 worker.result-sent:3 ventilator.lane-opened-received:1 ventilator.chunk-sent:5".split()
)


def test_recording_names_messages_of_all_stations() -> None:
    pairs = record_points()
    assert {("worker.result-sent", 3), ("ventilator.chunk-sent", 1), ("sink.journal-entry-sent", 1)} <= set(pairs)
    assert len({point for point, _ in pairs}) > 30


@pytest.mark.parametrize("at", [*SAMPLE, *(AT_THE_SINK if RESTARTS_SINK else ())])
def test_restarted_station_keeps_all_guarantees(at: str) -> None:
    point, _, hit = at.partition(":")
    assert run_with_failpoint(point, int(hit)) == []


def test_killed_worker_of_pipe_run_is_replaced() -> None:
    assert run_launcher_with_failpoint("worker.chunk-sent", 2) == []


@pytest.mark.parametrize("seed", [3])
def test_random_faults_keep_all_guarantees(seed: int) -> None:
    assert run_with_faults(seed, seconds=1.0) == []


@pytest.mark.skipif(bool(NO_PARTITIONS), reason=NO_PARTITIONS)
def test_partition_keeps_all_guarantees() -> None:
    assert run_with_partition(1) == []


def test_seed_determines_the_fault_plan() -> None:
    plans = [tuple(plan_faults(seed, 5.0)) for seed in range(20)]
    assert plans == [tuple(plan_faults(seed, 5.0)) for seed in range(20)]
    assert len(set(plans)) == 20
    assert {fault.kind for plan in plans for fault in plan} == {"freeze", "kill", "reset", "hold", "delay"}
    assert not [fault for plan in plans for fault in plan if (fault.kind, fault.target) == ("kill", "sink")]


def test_unrepaired_fault_is_detected() -> None:
    """Without a restarted ventilator the output is incomplete, and processes remain."""
    with Cluster() as cluster:
        write_tasks(cluster.folder, 40, 0.01)
        cast = RunningStations(cluster, STATION_COMMANDS)
        for part in STATION_COMMANDS:
            cast.start(part, **({"PIPE_FAILPOINT": "ventilator.chunk-sent:2=kill"} if part == "ventilator" else {}))
        assert cast.processes["ventilator"].wait() == -9
        assert len(find_violations(cluster.folder, [])) >= 30
        cluster.kill_all()
        assert check_run(cluster, []) != []
