"""The house holds: who may import whom, what has one home, what is never used, how long anything may be."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent / "pipeline"
FLOORS: list[dict[str, str]] = [
    {
        "": "__init__",
        "words": "messages parts facts errands notices station ranges tries records results inputs errors settings"
        " kinds halt wrongs watch columns accounts checksums structs",
    },
    {
        "ventilator": "ventilator accord desk admission lanes transit stock feeding marking suspects quarantine judged",
        "worker": "worker voice held credit unanswered ties departure glances",
        "sink": "sink intake ledger writing attempts audience speech closing verdict live view underway",
        "executor": "backlog outcomes template quoting replacements fillings assignment unsaid pace limits",
        "house": "roster decisions life",
        "cli": "figures render overview",
    },
    {
        "": "beside",
        "wire": "codec sockets listening calling places",
        "input": "source infiles cutter spool spoolfolder inlet tape reading form forming shaping"
        " combinations lettered",
        "output": "output page rows database folders sheet spout letters spill hoard shelf segment kernel",
        "journal": "journal book entries past recheck",
        "executor": "commands child children overtime sessions calls callslot bench plate batch arena crew nursery warm"
        " callee hearing surroundings rehearsal ground spawner chosen",
        "house": "processes signals machine finding ceilings makings quarters usage",
        "lab": "ventilator worker sink batch signal contexts relay serve ask weather sync envelope hwm poll soak"
        " forks table keys pings",
    },
    {"": "loop failpoints assembly onlookers safe", "house": "launcher"},
    {
        "": "__main__",
        "cli": "__init__ app given signature ends screen unfinished run ventilate work sink kill top journal"
        " keys lastline habits instead doctor completion lab interrupts",
    },
]
"""Each may import from its own floor and from those before it."""
FLOOR = {
    f"{wing}.{module}".strip("."): floor
    for floor, wings in enumerate(FLOORS)
    for wing, modules in wings.items()
    for module in modules.split()
}
FLOOR |= {f"{wing}.__init__": 0 for wings in FLOORS for wing in wings if wing not in {"", "cli"}}
PURE = frozenset(
    """
    __future__ array bisect collections dataclasses enum functools heapq itertools json math msgspec operator re signal
    struct sys typing zlib
    """.split()
)
HOMES = {
    "msgpack": {"journal.entries"},
    "dataclasses": {"words.structs"},  # for mypy alone: each dataclass costs more than half a millisecond at each start
    "zmq": {"wire.sockets", "wire.listening", "wire.calling", "loop", "onlookers", "house.makings"},
    "psutil": {"house.processes"},
    "rich": {"cli.top"},
    "typer": {"cli.app", "cli.signature", "cli.lab", "cli.completion"},
}
LAB = "lab."
LAB_USES = {"zmq", "dataclasses", "threading", "subprocess", "random"}
"""What a wing that shows how sockets, threads and processes go together can't do without; and it prints."""
NEVER_USED = frozenset(
    """
    pickle marshal shelve threading asyncio concurrent multiprocessing subprocess random logging pydantic
    """.split()
)
LINES_OF_A_FUNCTION, LINES_OF_A_CLASS, LINES_OF_A_FILE, LINES_OF_A_PAGE = 40, 120, 250, 100
VOCABULARY = {"words.messages", "words.errands"}  # all words stand together, however many there are

LIST = "Settings"  # and so do all options

FILES = {".".join(path.relative_to(HOUSE).with_suffix("").parts): path for path in sorted(HOUSE.rglob("*.py"))}
TREES = {module: ast.parse(path.read_text()) for module, path in FILES.items()}


def imported(module: str) -> set[str]:
    """Full names of all that the module imports, wherever it does so."""
    names: set[str] = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def ours(name: str) -> str:
    """The module that an imported name means: `pipeline.model.ranges.merge` is words.ranges. Empty if foreign."""
    root, _, inside = name.partition(".")
    if root != "pipeline":
        return ""
    known = [module for module in FILES if f"{inside}.".startswith(f"{module.removesuffix('.__init__')}.")]
    return max(known, key=lambda module: len(module.removesuffix(".__init__")), default="__init__")


def foreign(module: str) -> set[str]:
    return {name.partition(".")[0] for name in imported(module)} - {"pipeline"}


@pytest.mark.parametrize("module", FILES)
def test_imports_never_point_up(module: str) -> None:
    assert module in FLOOR, f"{module} has no floor: put it in FLOORS, and in docs/architecture.md"
    above = {name for name in imported(module) if (to := ours(name)) and FLOOR.get(to, 0) > FLOOR[module]}
    assert not above


@pytest.mark.parametrize("module", [module for module in FILES if FLOOR.get(module, 0) <= 1])
def test_the_two_lowest_floors_know_the_pure_standard_library_only(module: str) -> None:
    allowed = PURE | {"os"} if module == "executor.template" else PURE  # fsencode, for the user's argv
    assert foreign(module) <= allowed


@pytest.mark.parametrize("module", FILES)
def test_each_foreign_library_has_one_home_and_some_have_none(module: str) -> None:
    names = foreign(module) - LAB_USES if module.startswith(LAB) else foreign(module)
    assert {name for name in names if module not in HOMES.get(name, FILES)} == set()
    assert not names & NEVER_USED


@pytest.mark.parametrize("module", FILES)
def test_the_lab_stands_alone(module: str) -> None:
    named = {to for name in imported(module) if (to := ours(name))}
    if module.startswith(LAB):
        assert all(to.startswith(LAB) for to in named)
    elif module not in {"cli.lab", "cli.completion"}:
        assert not any(to.startswith(LAB) for to in named)


@pytest.mark.parametrize("module", FILES)
def test_a_module_opens_with_what_it_is(module: str) -> None:
    assert ast.get_docstring(TREES[module])


@pytest.mark.parametrize("module", FILES)
def test_nobody_prints_but_the_lab(module: str) -> None:
    if module.startswith(LAB):
        return
    calls = [node.func for node in ast.walk(TREES[module]) if isinstance(node, ast.Call)]
    assert not [call.lineno for call in calls if isinstance(call, ast.Name) and call.id == "print"]


def test_no_word_is_a_dict() -> None:
    words = [node for module in VOCABULARY for node in ast.walk(TREES[module])]
    fields = [node.annotation for node in words if isinstance(node, ast.AnnAssign)]
    assert fields
    assert not [
        ast.unparse(kind) for kind in fields if re.search(r"\b(dict|Dict|Mapping|Any|object)\b", ast.unparse(kind))
    ]


@pytest.mark.parametrize("module", FILES)
def test_the_tail_is_short(module: str) -> None:
    long: dict[str, int] = {}
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            assert node.end_lineno
            lines = node.end_lineno - node.lineno + 1
            if node.name != LIST and lines > (
                LINES_OF_A_CLASS if isinstance(node, ast.ClassDef) else LINES_OF_A_FUNCTION
            ):
                long[node.name] = lines
    assert long == {}
    lines = len(FILES[module].read_text().splitlines())
    assert lines <= (LINES_OF_A_PAGE if module.startswith(LAB) else LINES_OF_A_FILE) or module in VOCABULARY


def test_the_walk_would_see_a_breach() -> None:
    assert ours("pipeline.cli.app.parse") == "cli.app"
    assert ours("pipeline.sink.sink.Sink") == "sink.sink"
    assert ours("zmq.Context") == ""
    assert "msgpack" in foreign("journal.entries")
    assert "typer" in foreign("cli.app")
