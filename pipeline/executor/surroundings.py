"""What a callable finds in `os.environ` of the task that it is called with: its number, its try, its run, its slot.

To set a variable takes longer than a short task. So the number is computed when somebody reads it, from how far the
batch has come; where tasks are few, and so may be long, it is really set, and processes that they start see it, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable

SMALL_BATCH_TASKS = 16
"""Tasks in a batch up to which each is set."""
TASK_NUMBER_VARIABLES = ("PIPE_INDEX", "PARALLEL_SEQ")


class _LazyEnviron(os._Environ):  # type: ignore[type-arg]  # noqa: SLF001 -- to be os.environ, it must be of its class
    """The environment, in which the numbers are those of the present task."""

    get_task_number: Callable[[], int] = staticmethod(lambda: 0)

    def __getitem__(self, key: str) -> str:
        value: str = super().__getitem__(key)
        return str(type(self).get_task_number()) if key in TASK_NUMBER_VARIABLES else value


class TaskEnviron:
    """Of one warm child."""

    def __init__(self) -> None:
        self._last_values: tuple[str, int, int] = "", -1, -1
        os.environ.__class__ = _LazyEnviron

    def start_batch(self, run: str, attempt: int, slot: int, first: int, finished_count: Callable[[], int]) -> None:
        """A batch, which begins with task `first`, counted from 0; `present` counts those that have ended."""
        _LazyEnviron.get_task_number = staticmethod(lambda: first + finished_count() + 1)
        if (run, attempt, slot) != self._last_values:
            self._last_values = run, attempt, slot
            os.environ["PIPE_RUN"], os.environ["PIPE_ATTEMPT"] = run, str(attempt + 1)
            os.environ["PIPE_SLOT"] = os.environ["PARALLEL_JOBSLOT"] = str(slot)
        self.set_task(first)

    def set_task(self, task: int) -> None:
        """This one is the present task, for who looks into the environment of a process."""
        for name in TASK_NUMBER_VARIABLES:
            os.environ[name] = str(task + 1)
