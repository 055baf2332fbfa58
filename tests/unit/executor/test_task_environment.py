"""Where tasks run, and what variables they see: --cwd and --env."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.config.settings import Settings
from pipeline.executor import factory
from pipeline.model.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the person stands; all that `take` changes is put back."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = dict(os.environ)
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)


def test_tasks_run_there_and_own_files_are_found_from_where_the_person_stood(home: Path) -> None:
    settings = Settings(cwd="work", call="deep/words.py:length", init="json:loads")
    taken = factory.apply_cwd_and_env(settings)
    assert Path.cwd() == home / "work"
    assert os.environ["PWD"] == str(home / "work")
    assert taken.call == f"{home}/deep/words.py:length"
    assert taken.init == "json:loads"
    assert sys.path[0] == str(home)


def test_without_options_nothing_changes(home: Path) -> None:
    before = dict(os.environ)
    settings = Settings(call="words.py:length")
    assert factory.apply_cwd_and_env(settings) == settings
    assert (Path.cwd(), dict(os.environ)) == (home, before)


@pytest.mark.parametrize(("folder", "why"), [("nowhere", "no such folder"), ("file", "no such folder")])
def test_a_folder_that_is_missing_is_told(home: Path, folder: str, why: str) -> None:
    (home / "file").touch()
    with pytest.raises(UsageError, match=f"--cwd {folder}: {why}"):
        factory.validate_cwd_and_env(Settings(cwd=folder))


def test_variables_are_set_and_those_without_a_value_must_be(home: Path) -> None:  # noqa: ARG001 - put back there
    os.environ["OURS"] = "1"
    factory.apply_cwd_and_env(Settings(env=("OURS", "GIVEN=a=b", "EMPTY=")))
    assert {name: os.environ[name] for name in ("OURS", "GIVEN", "EMPTY")} == {"OURS": "1", "GIVEN": "a=b", "EMPTY": ""}


@pytest.mark.parametrize("given", ["MISSING", "=x", ""])
def test_a_variable_that_is_not_set_is_told(home: Path, given: str) -> None:  # noqa: ARG001
    with pytest.raises(UsageError, match=f"--env {given}: .*=VALUE"):
        factory.validate_cwd_and_env(Settings(env=(given,)))
