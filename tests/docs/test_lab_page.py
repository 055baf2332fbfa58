"""The page about the lab: each program is on it, and what it shows is what is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.docs.lab_page import PAGE, LabBlock, find_blocks, mask, rewrite, run_block

from pipeline.lab import PROGRAMS

pytestmark = pytest.mark.untraced

TEXT = PAGE.read_text()
SHOWN = find_blocks(TEXT)


@pytest.mark.parametrize("block", SHOWN, ids=lambda block: re.sub(r"\W+", "-", block.commands[-1]))
def test_what_the_page_shows_is_what_is_printed(block: LabBlock, tmp_path: Path) -> None:
    assert block.expected
    got = run_block(block, tmp_path)
    assert mask(got, has_varying_numbers=block.has_varying_numbers) == mask(
        block.expected, has_varying_numbers=block.has_varying_numbers
    )


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_program_is_on_the_page_and_run_there(name: str) -> None:
    assert f"`pipe lab {name}" in TEXT
    lines = [command for block in SHOWN for command in block.commands]
    assert any(re.match(rf"pipe lab {name}\b", line) for line in lines)


def test_a_block_is_its_commands_and_what_they_print() -> None:
    text = "x $ no\n```text numbers\n$ echo 1\n$ echo 2 &\n1\n2\n```\n```text\n$ true\n```\n```text\nno command\n```\n"
    assert find_blocks(text) == [
        LabBlock(("echo 1", "echo 2 &"), "1\n2\n", has_varying_numbers=True),
        LabBlock(("true",), "", has_varying_numbers=False),
    ]


def test_a_block_is_written_anew() -> None:
    text = "a\n```text\n$ echo b; sleep 0.05; false\nold\n```\nc\n"
    assert rewrite(text) == "a\n```text\n$ echo b; sleep 0.05; false\nb\n[1]\n```\nc\n"


def test_only_what_must_vary_does() -> None:
    assert mask("5 of 5 in 3.2 s,  10 ms", has_varying_numbers=False) == "5 of 5 in N s, N ms"
    assert mask("5 of 15", has_varying_numbers=True) == "N of N"
