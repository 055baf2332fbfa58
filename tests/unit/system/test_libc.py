"""Functions of libc."""

from __future__ import annotations

import os
import sys

import pytest

from pipeline.system.libc import call_libc


def test_call_libc_returns_the_result() -> None:
    assert call_libc("getpid") == os.getpid()
    assert call_libc("abs", -7) == 7
    assert call_libc("close", -1) == -1


def test_call_libc_of_a_missing_function_raises() -> None:
    with pytest.raises(AttributeError, match="no_such_function"):
        call_libc("no_such_function")


def test_call_libc_works_without_the_private_module(monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes  # noqa: F401

    monkeypatch.setitem(sys.modules, "_ctypes", None)
    assert call_libc("abs", -7) == 7
    with pytest.raises(AttributeError, match="no_such_function"):
        call_libc("no_such_function")
