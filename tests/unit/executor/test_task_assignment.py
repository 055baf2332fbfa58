"""TaskAssignment."""

from __future__ import annotations

import pytest

from pipeline.executor.command_template import RenderedCommand
from pipeline.executor.task_process import TaskAssignment
from pipeline.executor.task_queue import ChunkInfo
from pipeline.model.messages import RecordFormat
from pipeline.model.results import TaskMetrics, decode_metrics

COMMAND = RenderedCommand(b"/bin/sh", [b"sh", b"-c", b"echo a"], b"echo a")


def test_assignment_environment_adds_task_variables() -> None:
    assignment = TaskAssignment(41, b"a", 3, COMMAND, ChunkInfo(2, "4541"))
    environment = {b"HOME": b"/root", b"PIPE_SLOT": b"of the pipeline around us"}
    assert assignment.environment(environment) == {
        b"HOME": b"/root",
        b"PIPE_INDEX": b"42",
        b"PIPE_ATTEMPT": b"3",
        b"PIPE_RUN": b"4541",
        b"PIPE_SLOT": b"3",
        b"PARALLEL_SEQ": b"42",
        b"PARALLEL_JOBSLOT": b"3",
    }
    assert environment[b"PIPE_SLOT"] == b"of the pipeline around us"


def test_assignment_metrics_only_if_collected() -> None:
    assignment = TaskAssignment(41, b"a", 3, COMMAND, record_format=RecordFormat(collect_metrics=True), assigned_at=1e9)
    assert list(decode_metrics(assignment.metrics(-0.5, 2.0, 1.5, 4096, 7))) == [
        TaskMetrics(1e9, 0.0, 2.0, 1.5, 4096, 3, 7, b"echo a", b"a")
    ]
    assert assignment._replace(record_format=RecordFormat()).metrics(0.5, 2.0, 1.5, 4096, 7) == b""


@pytest.mark.parametrize(
    ("text", "expected"),  # as GNU parallel writes them
    [
        (b"", b""),
        (b"a", b"T\ta"),
        (b"a\nb", b"T\ta\nT\tb"),
        (b"a\n\nb\n", b"T\ta\nT\t\nT\tb\n"),
        (b"\n", b"T\t\n"),
        (b"\n\n", b"T\t\nT\t\n"),
        (b"10%\r20%\r", b"T\t10%\rT\t20%\r"),
        (b"a\r\nb", b"T\ta\rT\t\nT\tb"),
    ],
)
@pytest.mark.parametrize("tag", [b"T", b"\\1", b"a\\g<0>", b"\r"])
def test_add_tags_prefixes_each_line(tag: bytes, text: bytes, expected: bytes) -> None:
    assignment = TaskAssignment(0, b"a", 1, COMMAND, tag=tag + b"\t")
    assert assignment.add_tags(text) == expected.replace(b"T", tag)


def test_add_tags_without_tag_keeps_text() -> None:
    assert TaskAssignment(0, b"a", 1, COMMAND).add_tags(b"a\nb\r") == b"a\nb\r"
