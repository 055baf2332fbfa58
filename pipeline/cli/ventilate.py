"""`pipe ventilate`: the station that reads tasks and spreads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.cli.screen import Screen

HELP = """Read tasks from files or stdin, and spread them.

It ends when the sink has settled all. Workers and sink may be started before or after, here or on other machines.

\b
Examples:
  find . -type f | pipe ventilate
  pipe ventilate --name hashes words-1.txt words-2.txt
  pipe ventilate ::: one two three
  pipe ventilate --block 1M access.log        each task a block of whole lines
"""


def main(settings: Settings, screen: Screen) -> int:
    """Be the ventilator; the run's exit code."""
    from pipeline import assembly

    return assembly.ventilate(settings, screen.told)
