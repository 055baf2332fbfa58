"""The page about the house names what is there, and only that."""

from __future__ import annotations

import re
from pathlib import Path

HOUSE = Path(__file__).parent.parent
PAGE = (HOUSE / "docs" / "architecture.md").read_text()


def test_every_module_stands_on_its_floor_once() -> None:
    table = PAGE.partition("from floor to floor:")[2].partition("## Invariants")[0]
    named = re.findall(
        r"`([\w/]+)`", " ".join(line.split("|")[2] for line in table.splitlines() if line.count("|") == 4)
    )
    files = (HOUSE / "pipeline").rglob("*.py")
    modules = [path.relative_to(HOUSE / "pipeline").with_suffix("").as_posix() for path in files]
    assert sorted(named) == sorted(module for module in modules if not module.endswith("/__init__"))


def test_every_test_that_holds_an_invariant_is_there() -> None:
    named = re.findall(r"`(\w+\.py)`", PAGE.partition("## Invariants")[2].partition("## Decisions")[0])
    assert len(named) > 20
    assert [name for name in named if not (HOUSE / "tests" / name).exists()] == []


def test_no_socket_sends_without_copying() -> None:
    """Else pyzmq starts a thread that the page denies."""
    paths = [path for path in (HOUSE / "pipeline").rglob("*.py") if path.parent.name != "lab"]
    assert not [path for path in paths if re.search(r"copy\s*=\s*False", path.read_text())]
