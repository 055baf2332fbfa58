"""Variants of the pipelines that the fault tests run: options, and what they change in the evidence."""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Variant:
    """Options of the sink, or of `pipe run`, and the evidence that they leave."""

    options: tuple[str, ...] = ()
    output: str = "out"
    is_from_stdin: bool = False
    """The tasks come from a pipe, so `pipe run` keeps a copy of them (a spool)."""
    retries: int = 0
    has_poison: bool = False
    """One task kills its worker each time."""
    is_ordered: bool = False
    is_halted: bool = False
    """The run ends early, so tasks may be missing, and the journal stays."""


VARIANTS: dict[str, Variant] = {
    "plain": Variant(),
    "order": Variant(("-k",), is_ordered=True),
    "durable": Variant(("--durability", "disk")),
    "retries": Variant(("--retries", "1", "--retry-delay", "0.1"), retries=1),
    "poison": Variant(has_poison=True),
    "spool": Variant(is_from_stdin=True),
    "sqlite": Variant(output="out.sqlite"),
    "results": Variant(("--results", "results")),
    "halt": Variant(("--halt", "soon,fail=3"), is_halted=True),
}
ONLY_RUN = {"poison", "spool"}
"""Variants of `pipe run` only: it restarts killed workers, and its ventilator reads stdin again from the spool."""


def read_output(folder: Path, variant: Variant) -> list[str]:
    """Return the lines that the output has of all tasks, in the order in which they were written."""
    path = folder / variant.output
    if not path.exists():
        return []
    if not variant.output.endswith(".sqlite"):
        return path.read_text().splitlines()
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT stdout FROM tasks WHERE status = 'ok' ORDER BY rowid").fetchall()
    return [line for (text,) in rows for line in text.splitlines()]


def find_differences(folder: Path, variant: Variant, output: list[str]) -> list[str]:
    """Return what is wrong with the order of the output, or with the folders of --results."""
    broken = []
    if variant.is_ordered and output != sorted(output, key=lambda line: int(line.split()[1])):
        broken.append(f"the output is out of order: {output}")
    if "--results" in variant.options:
        stored = Counter(line for path in folder.glob("results/**/stdout") for line in path.read_text().splitlines())
        broken += [] if stored == Counter(output) else [f"--results has {sorted(stored)}, the output {sorted(output)}"]
    return broken
