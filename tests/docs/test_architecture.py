"""docs/architecture.md is short and names existing files only."""

from __future__ import annotations

import re

from tests.support.processes import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()
MAX_WORDS = 1500
MAX_MODULES = 25


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_architecture_page_is_short() -> None:
    assert len(PAGE.split()) <= MAX_WORDS


def test_architecture_page_names_existing_files() -> None:
    named = set(re.findall(r"`([\w/]+\.py)`", PAGE))
    assert len(named) > MAX_MODULES
    assert [
        name for name in sorted(named) if not any((ROOT / base / name).exists() for base in (".", "pipeline"))
    ] == []


def test_task_path_passes_few_modules_once() -> None:
    steps = re.findall(r"^\d+\. `([\w/]+\.py)`", section("The life of a task"), re.MULTILINE)
    assert len(steps) == len(set(steps)) <= MAX_MODULES
    assert steps[-1] == "storage/journal.py"


def test_architecture_page_describes_each_package() -> None:
    packages = {path.parent.name for path in (ROOT / "pipeline").glob("*/*.py")}
    assert set(re.findall(r"^\*\*(\w+)\*\*", section("Packages"), re.MULTILINE)) == packages


def test_no_socket_sends_without_copying() -> None:
    """Otherwise pyzmq starts its garbage collector thread, which docs/decisions.md excludes."""
    paths = [path for path in (ROOT / "pipeline").rglob("*.py") if path.parent.name != "lab"]
    assert not [path for path in paths if re.search(r"copy\s*=\s*False", path.read_text())]
