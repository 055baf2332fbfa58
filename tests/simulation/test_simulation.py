"""The simulation over many seeds, and each rule of the protocol switched off in turn."""

from __future__ import annotations

import os
from collections.abc import Iterable

import pytest

from pipeline.ventilator.lane import WorkerLane
from tests.simulation.mutants import EDITED, MUTANTS, Mutant
from tests.simulation.simulation import Crash, Violation, simulate

SEEDS = 1000
FRESH = SEEDS + int.from_bytes(os.urandom(4), "little")
"""Seeds that are new in each run of the tests; a failing one prints how to replay it."""
SEEDS_PER_TEST = 100
FIGURE_SEEDS = 40
FAILURE_SEEDS = 400


@pytest.mark.parametrize("start", range(0, SEEDS, SEEDS_PER_TEST))
@pytest.mark.parametrize("first", [0, FRESH], ids=["fixed", "fresh"])
def test_run_with_faults_ends_and_writes_each_task_once(first: int, start: int) -> None:
    for seed in range(first + start, first + start + SEEDS_PER_TEST):
        simulate(seed)


def test_same_seed_gives_same_run() -> None:
    first, second = simulate(23), simulate(23)
    assert first.log.events
    assert first.log.format_events() == second.log.format_events()
    assert first.log.sent_counts == second.log.sent_counts


def test_failing_seed_names_its_replay_command(monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.rule == "each task is accepted once")
    switch_off(mutant, monkeypatch)
    with pytest.raises(Violation, match=r"written twice(.|\n)*replay: scripts/simulate --seed \d+"):
        total(mutant, range(FAILURE_SEEDS))


def test_exception_of_a_mutant_is_a_crash_and_no_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WorkerLane, "free_credit", lambda lane: lane.no_such_attribute)
    with pytest.raises(Crash, match=r"AttributeError(.|\n)*replay: scripts/simulate --seed 1"):
        simulate(1, tasks=7, faults={})


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_no_rule_is_idle(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    count = FIGURE_SEEDS if mutant.measure else FAILURE_SEEDS
    seeds = [*range(mutant.first_seed, mutant.first_seed + count), *range(mutant.first_seed)]
    with_rule = total(mutant, seeds) if mutant.measure else 0
    switch_off(mutant, monkeypatch)
    try:
        without = total(mutant, seeds)
    except Violation:
        return
    except Crash as crash:
        pytest.fail(f"the mutant {mutant.rule!r} crashes, which proves nothing: {crash}")
    assert mutant.measure
    assert without > with_rule * 1.01


def total(mutant: Mutant, seeds: Iterable[int]) -> float:
    """Return the mutant's figure over these seeds. Raise Violation at the first that breaks a promise."""
    measure = mutant.measure or (lambda _: 0.0)
    return sum(measure(simulate(seed, **mutant.changes)) for seed in seeds)


def switch_off(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutant.owner, mutant.method, mutant.replacement(getattr(mutant.owner, mutant.method)))


@pytest.mark.parametrize("edited", range(0, 50, 7))
def test_changed_input_is_rejected_if_its_tasks_are_settled(edited: int) -> None:
    spoiled = 0
    for seed in range(16):
        spoiled += simulate(seed, **EDITED | {"edited": edited}).router.input.is_spoiled is True
    assert spoiled
