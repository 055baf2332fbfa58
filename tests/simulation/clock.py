"""Simulated time and randomness.

Time is a number that jumps from event to event; simultaneous events happen in the order in which they were scheduled.
All random numbers are drawn here, in the order of the events, so that a seed always gives the same run.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from tests.simulation.plan import SimulationPlan

MIN_DELAY_SECONDS = 0.0001
"""Duration of what happens at once."""


class Clock:
    """The scheduled events and the random numbers of one run."""

    def __init__(self, plan: SimulationPlan) -> None:
        self.plan, self.rng = plan, random.Random(plan.seed + 1)
        self.now = 0.0
        self.has_faults = True
        """False after the last fault."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._last_sequence = self._last_number = 0

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        """Schedule a callback."""
        self._last_sequence += 1
        heapq.heappush(self._events, (when, self._last_sequence, callback))

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Schedule a callback at once, after all events of this moment."""
        self.call_at(self.now + MIN_DELAY_SECONDS, callback)

    def step(self) -> bool:
        """Run the next event; return False if there is none."""
        if not self._events:
            return False
        self.now, _, callback = heapq.heappop(self._events)
        callback()
        return True

    def draw_fault(self, kind: str, probability: float) -> bool:
        """Return whether this fault happens now."""
        return self.has_faults and kind in self.plan.faults and self.rng.random() < probability

    def next_number(self) -> int:
        """Return a number that is unused in this run."""
        self._last_number += 1
        return self._last_number
