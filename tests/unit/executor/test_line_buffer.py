"""LineBuffer."""

from __future__ import annotations

import random

import pytest

from pipeline.executor import task_process
from pipeline.executor.command_template import RenderedCommand
from pipeline.executor.task_process import LineBuffer, TaskAssignment
from pipeline.model.messages import PartialOutput


def make_buffer(tag: bytes = b"") -> LineBuffer:
    return LineBuffer(TaskAssignment(7, b"a", 1, RenderedCommand(None, []), tag=tag))


def test_line_buffer_returns_each_whole_line_once() -> None:
    line_buffer = make_buffer()
    line_buffer.feed(b"one")
    assert line_buffer.take_lines() == []
    line_buffer.feed(b"\ntwo\nthr")
    assert line_buffer.take_lines() == [PartialOutput("", 7, 0, 0, b"one\ntwo\n")]
    assert line_buffer.take_lines() == []
    line_buffer.feed(b"ee\n")
    line_buffer.feed(b"four\n")
    assert line_buffer.take_lines() == [PartialOutput("", 7, 0, 8, b"three\nfour\n")]


def test_line_buffer_tags_lines_and_counts_tags() -> None:
    line_buffer = make_buffer(b"T\t")
    line_buffer.feed(b"a\nb\nc")
    assert line_buffer.take_lines() == [PartialOutput("", 7, 0, 0, b"T\ta\nT\tb\n")]
    line_buffer.feed(b"d\n")
    assert line_buffer.take_lines() == [PartialOutput("", 7, 0, 8, b"T\tcd\n")]


@pytest.mark.parametrize("seed", range(20))
def test_line_buffer_random_feeds_give_output_prefix(seed: int) -> None:
    rng = random.Random(seed)
    output = bytes(rng.choice(b"ab\n") for _ in range(500)) + b"end"
    line_buffer, offset, reported = make_buffer(), 0, b""
    while offset < len(output):
        size = rng.randrange(1, 40)
        line_buffer.feed(output[offset : offset + size])
        offset += size
        for lines in line_buffer.take_lines() if rng.random() < 0.5 else []:
            assert lines.start == len(reported)
            reported += lines.body
    reported += b"".join(lines.body for lines in line_buffer.take_lines())
    assert reported == output[: output.rindex(b"\n") + 1]


def test_line_buffer_reports_nothing_after_a_line_too_long_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_process, "MAX_MEMORY_BYTES", 10)
    line_buffer = make_buffer()
    for data in (b"one\n", b"x" * 11, b"y" * 1000, b"\n", b"two\n"):
        line_buffer.feed(data)
    assert line_buffer.take_lines() == [PartialOutput("", 7, 0, 0, b"one\n")]
    assert line_buffer.take_lines() == []
