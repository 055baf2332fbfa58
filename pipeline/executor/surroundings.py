"""What a callable finds in `os.environ` of the task that it is called with: its number, its try, its run, its slot.

To set a variable takes longer than a short task. So the number is computed when somebody reads it, from how far the
batch has come; where tasks are few, and so may be long, it is really set, and processes that they start see it, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable

FEW = 16
"""Tasks in a batch up to which each is set."""
NUMBERS = ("PIPE_INDEX", "PARALLEL_SEQ")


class _Lazy(os._Environ):  # type: ignore[type-arg]  # noqa: SLF001 -- to be os.environ, it must be of its class
    """The environment, in which the numbers are those of the present task."""

    present: Callable[[], int] = staticmethod(lambda: 0)

    def __getitem__(self, key: str) -> str:
        value: str = super().__getitem__(key)
        return str(type(self).present()) if key in NUMBERS else value


class Surroundings:
    """Of one warm child."""

    def __init__(self) -> None:
        self._known: tuple[str, int, int] = "", -1, -1
        os.environ.__class__ = _Lazy

    def begin(self, run: str, tries: int, slot: int, first: int, present: Callable[[], int]) -> None:
        """A batch, which begins with task `first`, counted from 0; `present` counts those that have ended."""
        _Lazy.present = staticmethod(lambda: first + present() + 1)
        if (run, tries, slot) != self._known:
            self._known = run, tries, slot
            os.environ["PIPE_RUN"], os.environ["PIPE_ATTEMPT"] = run, str(tries + 1)
            os.environ["PIPE_SLOT"] = os.environ["PARALLEL_JOBSLOT"] = str(slot)
        self.set(first)

    def set(self, task: int) -> None:
        """This one is the present task, for who looks into the environment of a process."""
        for name in NUMBERS:
            os.environ[name] = str(task + 1)
