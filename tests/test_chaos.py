"""A sample of what `scripts/chaos` does: stations killed at a word, a storm, a partition; and that a strike is seen."""

from __future__ import annotations

import pytest
from chaos import LINE, SINK, Cast, recorded, struck, struck_run, tasks, verdict
from oracle import judged
from partition import missing, parted
from stage import Stage
from storm import planned, weathered

pytestmark = pytest.mark.untraced

NO_PARTITIONS = missing()
AT_THE_SINK = "sink.write-sent:2 sink.entry-sent:2 sink.durable-heard:3 sink.kill-sent:1".split()
SAMPLE = "worker.chunk-heard:2 worker.result-sent:3 ventilator.opened-heard:1 ventilator.chunk-sent:5".split()


def test_a_recording_names_the_words_of_all_three() -> None:
    pairs = recorded()
    assert {("worker.result-sent", 3), ("ventilator.chunk-sent", 1), ("sink.entry-sent", 1)} <= set(pairs)
    assert len({point for point, _ in pairs}) > 30


@pytest.mark.parametrize("at", [*SAMPLE, *(AT_THE_SINK if SINK else ())])
def test_who_is_killed_at_a_word_and_started_again_breaks_no_promise(at: str) -> None:
    point, _, hit = at.partition(":")
    assert struck(point, int(hit)) == []


def test_a_worker_of_pipe_run_that_is_killed_is_replaced() -> None:
    assert struck_run("worker.chunk-sent", 2) == []


@pytest.mark.parametrize("seed", [3])
def test_a_storm_breaks_no_promise(seed: int) -> None:
    assert weathered(seed, seconds=1.0) == []


@pytest.mark.skipif(bool(NO_PARTITIONS), reason=NO_PARTITIONS)
def test_a_partition_breaks_no_promise() -> None:
    assert parted(1) == []


def test_a_seed_is_its_plan() -> None:
    plans = [tuple(planned(seed, 5.0)) for seed in range(20)]
    assert plans == [tuple(planned(seed, 5.0)) for seed in range(20)]
    assert len(set(plans)) == 20
    assert {fault.what for plan in plans for fault in plan} == {"freeze", "kill", "reset", "hold", "delay"}
    assert not [fault for plan in plans for fault in plan if (fault.what, fault.whom) == ("kill", "sink")]


def test_a_strike_that_nobody_mends_is_seen() -> None:
    """Without another ventilator in its place the output is not complete, and somebody still waits."""
    with Stage() as stage:
        tasks(stage.folder, 40, 0.01)
        cast = Cast(stage, LINE)
        for part in LINE:
            cast.enter(part, **({"PIPE_FAILPOINT": "ventilator.chunk-sent:2=kill"} if part == "ventilator" else {}))
        assert cast.playing["ventilator"].code() == -9
        assert len(judged(stage.folder, [])) >= 30
        stage.kill_all()
        assert verdict(stage, []) != []
