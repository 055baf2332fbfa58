"""Forming: the tasks of an input that is not taken line by line, whether it is read or given on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pipeline.input.combinations import Combinations
from pipeline.input.form import Form
from pipeline.input.infiles import identity
from pipeline.input.shaping import Shaping
from pipeline.words.inputs import Given
from pipeline.words.parts import Recipe

COMBINED = 1000
"""Combinations that are made at a time."""


class Formed(NamedTuple):
    """Records without terminators; whether they are the last; and why the reading breaks off behind them."""

    records: list[bytes]
    is_over: bool
    wrong: str = ""


class Forming:
    """One input's; `recipe` is what its records look like, `identity` what tells it from others, beside its files."""

    def __init__(self, form: Form, given: Sequence[Given], *, zero: bool) -> None:
        """Raises UsageError and PipelineError for given files that can't be read."""
        self.mark = b"\0" if zero else b"\n"
        self.recipe = Recipe(zero=zero and form.is_plain, shape=form.shape)
        files = [path for each in given if each.mark.startswith("::::") for path in each.words]
        self.identity = (self.recipe, form, tuple(given), tuple(identity(path, 0) for path in files))
        self.is_exact = form.is_plain and not given
        """Whether a line is a task."""
        self.reads = not given
        """Whether it wants lines."""
        self._shaping = Shaping(form)
        self._combinations = Combinations(given, self.mark, header=form.header) if given else None

    def form(self, body: bytes, file: int, _: str) -> Formed:
        """The records that are complete with these lines of the `file`-th file.

        No lines: there are no more. Of what is given none are wanted.
        """
        if self._combinations:
            taken, names = self._combinations.take(COMBINED), self._combinations.names
            records, is_over = self._shaping.rows([self._shaping.product(names, each) for each in taken]), not taken
        else:
            lines = body.removesuffix(self.mark).split(self.mark) if body else []
            records, is_over = self._shaping.lines(lines, file), not body
        return Formed(self._shaping.finish() if is_over else records, is_over)
