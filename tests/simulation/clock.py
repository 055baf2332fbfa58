"""Time and luck of one seed: what happens next, and what is drawn.

Time is a number that jumps from event to event; of two events at the same time the one that was asked for first comes
first. All luck is drawn here, in the order of the events, so that the same seed tells the same story.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from tests.simulation.plan import SimulationPlan

MIN_DELAY_SECONDS = 0.0001
"""Seconds until what happens at once has happened."""


class Clock:
    """The events of one line, and its luck."""

    def __init__(self, plan: SimulationPlan) -> None:
        self.plan, self.rng = plan, random.Random(plan.seed + 1)
        self.now = 0.0
        self.has_faults = True
        """The last fault is yet to come."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._last_sequence = self._last_number = 0

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        """Do this then."""
        self._last_sequence += 1
        heapq.heappush(self._events, (when, self._last_sequence, callback))

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Do this at once, but after all that happens now."""
        self.call_at(self.now + MIN_DELAY_SECONDS, callback)

    def step(self) -> bool:
        """The next event; False if there is none."""
        if not self._events:
            return False
        self.now, _, act = heapq.heappop(self._events)
        act()
        return True

    def draw_fault(self, kind: str, probability: float) -> bool:
        """Whether this fault happens now."""
        return self.has_faults and kind in self.plan.faults and self.rng.random() < probability

    def next_number(self) -> int:
        """One that nothing on this line has had yet."""
        self._last_number += 1
        return self._last_number
