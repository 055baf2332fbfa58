"""docs/lab.md runs each lab program and shows the printed output."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.lab import PROGRAMS
from tests.docs.lab_page import PAGE, LabBlock, find_blocks, mask, rewrite, run_block


TEXT = PAGE.read_text()
SHOWN = find_blocks(TEXT)


@pytest.mark.parametrize("block", SHOWN, ids=lambda block: re.sub(r"\W+", "-", block.commands[-1]))
def test_lab_page_shows_the_printed_output(block: LabBlock, tmp_path: Path) -> None:
    assert block.expected
    got = run_block(block, tmp_path)
    assert mask(got, has_varying_numbers=block.has_varying_numbers) == mask(
        block.expected, has_varying_numbers=block.has_varying_numbers
    )


@pytest.mark.parametrize("name", PROGRAMS)
def test_lab_page_runs_each_program(name: str) -> None:
    assert f"`pipe lab {name}" in TEXT
    lines = [command for block in SHOWN for command in block.commands]
    assert any(re.match(rf"pipe lab {name}\b", line) for line in lines)


def test_lab_block_has_commands_and_output() -> None:
    text = "x $ no\n```text numbers\n$ echo 1\n$ echo 2 &\n1\n2\n```\n```text\n$ true\n```\n```text\nno command\n```\n"
    assert find_blocks(text) == [
        LabBlock(("echo 1", "echo 2 &"), "1\n2\n", has_varying_numbers=True),
        LabBlock(("true",), "", has_varying_numbers=False),
    ]


def test_rewrite_replaces_the_output() -> None:
    text = "a\n```text\n$ echo b; sleep 0.05; false\nold\n```\nc\n"
    assert rewrite(text) == "a\n```text\n$ echo b; sleep 0.05; false\nb\n[1]\n```\nc\n"


def test_mask_hides_only_varying_parts() -> None:
    assert mask("5 of 5 in 3.2 s,  10 ms", has_varying_numbers=False) == "5 of 5 in N s, N ms"
    assert mask("5 of 15", has_varying_numbers=True) == "N of N"
