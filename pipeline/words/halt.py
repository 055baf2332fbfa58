"""When a person wants a run to end before all is done: after so many failures, successes or ends.

The words are GNU parallel's: `soon` starts nothing more, `now` kills what runs; `fail`, `success` or `done`; a number,
or a percentage of all tasks, which can be told only once their number is known. Nothing here ends anything.
"""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

_MAX_TASKS = 1 << 62
"""As many tasks as there can be."""


class HaltCondition(Struct, frozen=True):
    """After `count` tasks, or `percent` of all, that ended as `why` says, the run ends as `mode` says."""

    mode: Literal["soon", "now"]
    event: Literal["fail", "success", "done"]
    count: int = 0
    percent: float = 0.0

    def is_met(self, done_count: int, failed_count: int, total: int) -> bool:
        """Whether it is time; `total` is -1 while unknown."""
        number = {"fail": failed_count, "success": done_count - failed_count, "done": done_count}[self.event]
        if self.count:
            return number >= self.count
        return total > 0 and number > 0 and 100 * number >= self.percent * total

    def __str__(self) -> str:
        """As it was typed."""
        return f"{self.mode},{self.event}={self.count or f'{self.percent:g}%'}"


def parse_halt(text: str) -> HaltCondition | None:
    """What `now,fail=1`, `soon,done=10%` or `never` mean. Raises ValueError."""
    if text == "never":
        return None
    found = re.fullmatch(r"(soon|now),(fail|success|done)=([0-9]{1,18})(%?)", text)
    if not found or not 0 < int(found[3]) <= (100 if found[4] else _MAX_TASKS):
        raise ValueError(f"{text!r} is not like now,fail=1 or soon,done=10%")
    mode, why, number = found[1], found[2], int(found[3])
    return HaltCondition(mode, why, percent=number) if found[4] else HaltCondition(mode, why, number)  # type: ignore[arg-type]
