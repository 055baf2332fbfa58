"""Executor created for the settings of a worker."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.config.settings import Settings
from pipeline.executor import factory
from pipeline.executor.command_executor import CommandExecutor, DryRunExecutor
from pipeline.model.errors import UsageError
from pipeline.model.events import TasksFinished
from pipeline.model.messages import Chunk, Result
from pipeline.model.state_machine import Port
from tests.unit.executor.command_driver import CommandDriver

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _restore_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dict(os.environ)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "tool").write_text("#!/bin/sh\necho $GIVEN $PWD $1\n")
    (tmp_path / "work" / "tool").chmod(0o700)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    os.environ.clear()
    os.environ.update(before)


def test_factory_applies_cwd_env_and_tag_to_commands(tmp_path: Path) -> None:
    settings = Settings(command=("./tool",), cwd="work", env=("GIVEN=it",), tagstring="{#}")
    executor = factory.create_executor(settings, 2)
    assert isinstance(executor, CommandExecutor)
    driver = CommandDriver(executor)
    try:
        assert driver.run_records(b"a") == [f"1\tit {tmp_path}/work a\n".encode()]
    finally:
        executor.close()


def test_factory_stdin_sends_the_record() -> None:
    executor = factory.create_executor(Settings(command=("cat",), stdin=True), 1)
    assert isinstance(executor, CommandExecutor)
    driver = CommandDriver(executor)
    try:
        assert driver.run_records(b"a b") == [b"a b"]
    finally:
        executor.close()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(command=("no-such-command {}",), dry_run=True, tag=True), b"a\tno-such-command a\n"),
        (Settings(command=("cat",), dry_run=True, stdin=True), b"cat\n"),
        (Settings(call="m:f", dry_run=True), b"m:f('a')\n"),
    ],
)
def test_factory_dry_run_creates_dry_run_executor(settings: Settings, expected: bytes) -> None:
    executor = factory.create_executor(settings, 1)
    assert isinstance(executor, DryRunExecutor)
    executor.send(Port.EXECUTOR, Chunk("run", 1, 1, 0, 1, b"a\n"))
    assert executor.receive() == [
        TasksFinished(Result("", "", 0, 1, expected, struct.pack("<I", len(expected)), b"", ()), 0.0)
    ]


@pytest.mark.parametrize("dry_run", [False, True])
def test_factory_wrong_cwd_or_env_raises(dry_run: bool) -> None:  # noqa: FBT001 - a case
    with pytest.raises(UsageError, match="--cwd nowhere: no such directory"):
        factory.create_executor(Settings(command=("true",), cwd="nowhere", dry_run=dry_run), 1)
    with pytest.raises(UsageError, match="--env NOT_SET"):
        factory.create_executor(Settings(command=("true",), env=("NOT_SET",), dry_run=dry_run), 1)
