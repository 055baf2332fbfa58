"""What a task has written and nobody was told: whole lines, each once, with where they stand in its output."""

from __future__ import annotations

import random

import pytest

from pipeline.executor.command_template import RenderedCommand
from pipeline.executor.task_process import LineBuffer, TaskAssignment
from pipeline.model.messages import PartialOutput


def of(tag: bytes = b"") -> LineBuffer:
    return LineBuffer(TaskAssignment(7, b"a", 1, RenderedCommand(None, []), tag=tag))


def test_only_whole_lines_are_said_and_each_once() -> None:
    unsaid = of()
    unsaid.feed(b"one")
    assert unsaid.take_lines() == []
    unsaid.feed(b"\ntwo\nthr")
    assert unsaid.take_lines() == [PartialOutput("", 7, 0, 0, b"one\ntwo\n")]
    assert unsaid.take_lines() == []
    unsaid.feed(b"ee\n")
    unsaid.feed(b"four\n")
    assert unsaid.take_lines() == [PartialOutput("", 7, 0, 8, b"three\nfour\n")]


def test_lines_are_tagged_and_counted_as_in_the_output() -> None:
    unsaid = of(b"T\t")
    unsaid.feed(b"a\nb\nc")
    assert unsaid.take_lines() == [PartialOutput("", 7, 0, 0, b"T\ta\nT\tb\n")]
    unsaid.feed(b"d\n")
    assert unsaid.take_lines() == [PartialOutput("", 7, 0, 8, b"T\tcd\n")]


@pytest.mark.parametrize("seed", range(20))
def test_all_that_is_said_is_the_beginning_of_the_output(seed: int) -> None:
    rng = random.Random(seed)
    output = bytes(rng.choice(b"ab\n") for _ in range(500)) + b"end"
    unsaid, at, said = of(), 0, b""
    while at < len(output):
        size = rng.randrange(1, 40)
        unsaid.feed(output[at : at + size])
        at += size
        for lines in unsaid.take_lines() if rng.random() < 0.5 else []:
            assert lines.start == len(said)
            said += lines.body
    said += b"".join(lines.body for lines in unsaid.take_lines())
    assert said == output[: output.rindex(b"\n") + 1]
