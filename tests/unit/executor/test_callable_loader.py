"""Functions named by --call and --init."""

from __future__ import annotations

import os.path
from pathlib import Path

import pytest

from pipeline.executor.callable_loader import error_line, load_callable, traceback_text, validate_name
from pipeline.model.errors import UsageError


@pytest.mark.parametrize("spec", ["", "f", ":f", "m:", "m:1", "m:a..b", "m:a b"])
def test_validate_name_malformed_raises_with_hint(spec: str) -> None:
    with pytest.raises(UsageError, match=f"^--init {spec}: not the name of a function$") as raised:
        validate_name(spec, "--init")
    assert raised.value.hint == "write MODULE:FUNCTION or FILE.py:FUNCTION"


def test_load_callable_returns_functions_and_methods() -> None:
    assert load_callable("builtins:len", "--call") is len
    assert load_callable("os.path:join", "--call") is os.path.join
    assert load_callable("builtins:str.upper", "--call") is str.upper


def test_load_callable_file_is_one_module_with_siblings(tmp_path: Path) -> None:
    (tmp_path / "sibling_module.py").write_text("def there(task): return task")
    (tmp_path / "module_under_test.py").write_text("from sibling_module import there\ndef begin(): pass")
    path = str(tmp_path / "module_under_test.py")
    validate_name(path + ":there", "--call")
    there, begin = load_callable(path + ":there", "--call"), load_callable(path + ":begin", "--init")
    assert there("x") == "x"
    assert begin.__globals__["there"] is there


def test_load_callable_syntax_error_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "broken_module.py"
    path.write_text("def f(:\n")
    with pytest.raises(UsageError, match=r"(?s)cannot import .*broken_module.py: SyntaxError.*line 1"):
        load_callable(f"{path}:f", "--call")


def test_error_line_and_traceback_of_an_exception() -> None:
    def fail() -> None:
        raise ValueError("one\ntwo")

    with pytest.raises(ValueError, match="one") as caught:
        fail()
    assert error_line(caught.value) == "ValueError: one"
    assert traceback_text(caught.value).startswith("Traceback")
    assert "in fail" in traceback_text(caught.value)
    assert traceback_text(ValueError()) == ""
