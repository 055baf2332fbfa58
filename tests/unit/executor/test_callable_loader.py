"""Naming a function."""

from __future__ import annotations

import os.path
from pathlib import Path

import pytest

from pipeline.executor.callable_loader import error_line, load_callable, traceback_text, validate_name
from pipeline.model.errors import UsageError


@pytest.mark.parametrize("spec", ["", "f", ":f", "m:", "m:1", "m:a..b", "m:a b"])
def test_what_names_no_function(spec: str) -> None:
    with pytest.raises(UsageError, match=r"--init .*write MODULE:FUNCTION or FILE\.py:FUNCTION"):
        validate_name(spec, "--init")


def test_find() -> None:
    assert load_callable("builtins:len", "--call") is len
    assert load_callable("os.path:join", "--call") is os.path.join
    assert load_callable("builtins:str.upper", "--call") is str.upper


def test_a_file_is_one_module_and_finds_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_callee.py").write_text("def there(task): return task")
    (tmp_path / "callee_under_test.py").write_text("from neighbour_of_callee import there\ndef begin(): pass")
    path = str(tmp_path / "callee_under_test.py")
    validate_name(path + ":there", "--call")
    there, begin = load_callable(path + ":there", "--call"), load_callable(path + ":begin", "--init")
    assert there("x") == "x"
    assert begin.__globals__["there"] is there


def test_a_syntax_error_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "callee_broken.py"
    path.write_text("def f(:\n")
    with pytest.raises(UsageError, match=r"(?s)cannot import .*callee_broken.py: SyntaxError.*line 1"):
        load_callable(f"{path}:f", "--call")


def test_summary_and_story() -> None:
    def fail() -> None:
        raise ValueError("one\ntwo")

    with pytest.raises(ValueError, match="one") as caught:
        fail()
    assert error_line(caught.value) == "ValueError: one"
    assert traceback_text(caught.value).startswith("Traceback")
    assert "in fail" in traceback_text(caught.value)
    assert traceback_text(ValueError()) == ""
