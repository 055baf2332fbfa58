"""The simulated line over thousands of seeds, and each rule of the protocol switched off in turn."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from tests.simulation.mutants import EDITED, MUTANTS, Mutant
from tests.simulation.simulation import Crash, Violation, simulate

pytestmark = pytest.mark.untraced

SEEDS = 2000
FRESH = SEEDS + int.from_bytes(os.urandom(4), "little")
"""Seeds that no run before has seen; one that fails says how to replay it."""
PIECE = 100
FIGURE_SEEDS = 40
FAILURE_SEEDS = 400


def first_violation(start: int) -> str:
    """What the first seed of a piece says that breaks a promise; empty if none does."""
    for seed in range(start, start + PIECE):
        try:
            simulate(seed)
        except (Violation, Crash) as failure:
            return str(failure)
    return ""


@pytest.mark.parametrize("first", [0, FRESH], ids=["fixed", "fresh"])
def test_every_line_ends_and_every_task_is_written_once_whatever_fails(first: int) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        pieces = pool.map(first_violation, range(first, first + SEEDS, PIECE))
        violations = [violation for violation in pieces if violation]
    assert not violations, violations[0]


def test_the_same_seed_tells_the_same_story() -> None:
    one, other = simulate(23), simulate(23)
    assert one.log.events
    assert one.log.format_events() == other.log.format_events()
    assert one.log.sent_counts == other.log.sent_counts


def test_a_seed_that_fails_names_the_command_that_replays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.rule == "each task is accepted once")
    switch_off(mutant, monkeypatch)
    with pytest.raises(Violation, match=r"written twice(.|\n)*replay: scripts/simulate --seed \d+"):
        total(mutant, range(FAILURE_SEEDS))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_no_rule_is_idle(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = range(FIGURE_SEEDS if mutant.measure else FAILURE_SEEDS)
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


def total(mutant: Mutant, seeds: range) -> float:
    """The mutant's figure over these seeds. Raises Violation at the first that breaks a promise."""
    figure = mutant.measure or (lambda _: 0.0)
    return sum(figure(simulate(seed, **mutant.changes)) for seed in seeds)


def switch_off(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutant.owner, mutant.method, mutant.replacement(getattr(mutant.owner, mutant.method)))


@pytest.mark.parametrize("edited", range(0, 50, 7))
def test_changed_input_is_refused_where_its_tasks_are_settled(edited: int) -> None:
    spoiled = 0
    for seed in range(16):
        spoiled += simulate(seed, **EDITED | {"edited": edited}).router.input.is_spoiled is True
    assert spoiled
