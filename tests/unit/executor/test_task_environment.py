"""--cwd and --env of a worker."""

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
    """Change to a temporary directory; undo all changes of `apply_cwd_and_env` afterwards."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = dict(os.environ)
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)


def test_apply_cwd_makes_call_paths_absolute(home: Path) -> None:
    settings = Settings(cwd="work", call="deep/words.py:length", init="json:loads")
    applied = factory.apply_cwd_and_env(settings)
    assert Path.cwd() == home / "work"
    assert os.environ["PWD"] == str(home / "work")
    assert applied.call == f"{home}/deep/words.py:length"
    assert applied.init == "json:loads"
    assert sys.path[0] == str(home)


def test_apply_cwd_and_env_without_options_changes_nothing(home: Path) -> None:
    before = dict(os.environ)
    settings = Settings(call="words.py:length")
    assert factory.apply_cwd_and_env(settings) == settings
    assert (Path.cwd(), dict(os.environ)) == (home, before)


@pytest.mark.parametrize("directory", ["nowhere", "file"])
def test_validate_cwd_missing_directory_raises(home: Path, directory: str) -> None:
    (home / "file").touch()
    with pytest.raises(UsageError, match=f"--cwd {directory}: no such directory"):
        factory.validate_cwd_and_env(Settings(cwd=directory))


def test_apply_env_sets_and_keeps_variables(home: Path) -> None:  # noqa: ARG001 - put back there
    os.environ["OURS"] = "1"
    factory.apply_cwd_and_env(Settings(env=("OURS", "GIVEN=a=b", "EMPTY=")))
    assert {name: os.environ[name] for name in ("OURS", "GIVEN", "EMPTY")} == {"OURS": "1", "GIVEN": "a=b", "EMPTY": ""}


@pytest.mark.parametrize("variable", ["MISSING", "=x", ""])
def test_validate_env_unset_variable_raises_with_hint(home: Path, variable: str) -> None:  # noqa: ARG001
    with pytest.raises(UsageError, match=f"--env {variable}: ") as raised:
        factory.validate_cwd_and_env(Settings(env=(variable,)))
    assert "=VALUE" in raised.value.hint
