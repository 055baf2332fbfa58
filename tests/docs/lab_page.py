"""Blocks of docs/lab.md: each ```text block starts with commands, and the rest is their output.

The commands of a block run in one shell, which ends after all of them. Numbers with a unit or a decimal point may vary.
After the fence ```text numbers all numbers may vary. Column widths follow the numbers, so several spaces equal one.
`python -m tests.docs.lab_page` writes the current output into the page.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.support.lab_programs import TIMEOUT_SECONDS, free_ports
from tests.support.processes import ROOT

PAGE = ROOT / "docs" / "lab.md"
BLOCK = re.compile(r"^```text( numbers)?\n((?:\$ .*\n)+)((?:(?!```).*\n)*)```$", re.MULTILINE)
SHIM = """#!/bin/sh
case "$2" in
ventilator) set -- "$@" --port {0} --sink-port {1} ;;
worker) set -- "$@" --port {0} --sink-port {1} --control-port {2} ;;
sink) set -- "$@" --port {1} --control-port {2} ;;
serve | ask) set -- "$@" --port {3} ;;
esac
PYTHONPATH='{house}' exec '{python}' -m pipeline "$@"
"""
"""`pipe` on free ports instead of the default ports of the page."""


@dataclass(frozen=True)
class LabBlock:
    """Shell commands of a block, and the output that the page shows."""

    commands: tuple[str, ...]
    expected: str
    has_varying_numbers: bool


def find_blocks(text: str) -> list[LabBlock]:
    """Return all blocks of the page that start with commands."""
    return [
        LabBlock(tuple(line[2:] for line in commands.splitlines()), shown, bool(numbers))
        for numbers, commands, shown in BLOCK.findall(text)
    ]


def run_block(block: LabBlock, folder: Path) -> str:
    """Return the output of the commands, both streams together; a non-zero exit code is appended."""
    shim = folder / "pipe"
    shim.write_text(SHIM.format(*free_ports(4), house=ROOT, python=sys.executable))
    shim.chmod(0o755)
    for name in ("tmp", "run"):
        (folder / name).mkdir(mode=0o700)
    places = {"TMPDIR": str(folder / "tmp"), "XDG_RUNTIME_DIR": str(folder / "run")}
    ran = subprocess.run(
        ["bash", "-c", "\n".join([*block.commands, "code=$?", "wait", "exit $code"])],
        cwd=folder,
        env={**os.environ, **places, "PATH": f"{folder}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=2 * TIMEOUT_SECONDS,
        check=False,
    )
    assert not list((folder / "tmp").iterdir())
    return ran.stdout + (f"[{ran.returncode}]\n" if ran.returncode else "")


def mask(text: str, *, has_varying_numbers: bool) -> str:
    """Replace the parts that differ from run to run."""
    number = r"\d+(\.\d+)?" if has_varying_numbers else r"\d+\.\d+|\d+(?= ms\b)"
    return re.sub(r" +", " ", re.sub(number, "N", text))


def rewrite(text: str) -> str:
    """Return the page with the current output."""

    def replace_block(match: re.Match[str]) -> str:
        (block,) = find_blocks(match[0])
        with tempfile.TemporaryDirectory() as folder:
            return f"```text{match[1] or ''}\n{match[2]}{run_block(block, Path(folder))}```"

    return BLOCK.sub(replace_block, text)


if __name__ == "__main__":
    PAGE.write_text(rewrite(PAGE.read_text()))
