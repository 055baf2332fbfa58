"""What one seed of the simulated line does: the work, the limits, and which faults strike how often.

A swarm: every seed draws its own kinds of faults and its own rates, so that some seeds have none and some have four.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

INTERVAL, LIVENESS, PATIENCE = 1.0, 8.0, 300.0
"""Seconds, of every station on a simulated line."""
KINDS = (
    *("break", "dead", "drop", "double", "late", "kill worker", "freeze worker", "freeze all"),
    *("restart ventilator", "restart sink", "leave"),
)
"""Of faults. Those that a link does by itself are asked for at each message, the others strike."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one seed does: the work, and which faults at which rate a second."""

    seed: int
    tasks: int
    workers: int
    slots: int
    seconds: float
    long: float
    """Seconds of each 13th task; 0.0: as long as the others."""
    keep_order: bool
    chunk: int | None
    window: int
    slow_input: bool
    delay: float
    faults: dict[str, float]
    calm_after: float = 12.0
    spill_limit: int = 10 << 30
    stop: str = ""
    """How somebody ends the run early: soon or now; empty: nobody does."""
    stop_at: float = 0.0

    def seconds_of(self, task: int) -> float:
        """How long this task takes."""
        return self.long if self.long and task % 13 == 5 else self.seconds

    @property
    def latest(self) -> float:
        """When the line must be at its end."""
        return self.calm_after + 150 + 4 * self.tasks * max(self.seconds, self.delay)


def plan(seed: int) -> Plan:
    """What this seed draws."""
    rng = random.Random(seed)
    chosen = rng.sample(KINDS, rng.randint(0, 4))
    drawn = Plan(
        seed=seed,
        tasks=rng.choice([0, 1, 7, 30, 60]),
        workers=rng.randint(1, 3),
        slots=rng.randint(1, 3),
        seconds=rng.choice([0.001, 0.03, 0.3, 0.8]),
        long=rng.choice([0.0, 0.0, 5.0]),
        keep_order=rng.random() < 0.4,
        chunk=rng.choice([None, None, 1, 4]),
        window=rng.choice([64, 1 << 20]),
        slow_input=rng.random() < 0.2,
        delay=rng.choice([0.001, 0.02, 0.3]),
        faults={kind: rng.choice([0.05, 0.2, 0.6]) for kind in chosen},
    )
    # a sink that is started again does not know that its run was to end: its journal has no place for a Kill yet
    stop = rng.choice(["soon", "now"]) if rng.random() < 0.1 and "restart sink" not in chosen else ""
    limit = rng.choice([10 << 30, 10 << 30, 4])
    return replace(drawn, stop=stop, stop_at=10 * rng.random(), spill_limit=limit)


def fails(task: int) -> bool:
    """Whether this task ends badly, whoever runs it."""
    return task % 7 == 6
