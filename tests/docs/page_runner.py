"""Runner of the commands in a page: in order, in one shell, with a comparison of the output.

A ```console block contains commands after `$ ` (continued after `> `) and their output, both streams together.
A ```python block whose fence names a file is that file. A line `...` matches any lines. Only parts that differ from run
to run (times, rates, dates, names of workers) are masked on both sides.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.lab_programs import own_host

TIMEOUT_SECONDS = 60.0
ANY_LINES = "..."
MASKS = (
    (r"\d+(\.\d+)? ms\b", "T ms"),
    (r"\d[\d,]*\.\d+ s\b", "T s"),
    (r"[\d,.]+( tasks)?/s\b", "R/s"),
    (r"\b\d{1,2} [A-Z][a-z]{2}( \d{4})? \d\d:\d\d", "DATE"),
    (r"\b[\w-]+\.\d+\.[0-9a-f]{6}\b", "WORKER"),
    (r"\brun [0-9a-f]{16}\b", "run ID"),
    (r"^bash: line \d+: +\d+ Killed.*", "Killed"),
    (r"\d+% done", "P% done"),
    (r"\b(ipc|tcp)://[^\s;]+", "PLACE"),
    (r"\b1[0-9]{9}\.[0-9]{3}\b", "WHEN"),
    (r"\t *\d+\.\d{3}\b", "\tT"),
)
PRINT_EXIT_CODE = 'code=$?; [ "$code" = 0 ] || echo "[$code]"'
"""A non-zero exit code is shown after the output, as some prompts do."""
HOSTS = {"10.0.0.5": own_host()}
"""Addresses of a page that stand for others, and where the test finds them: the usual ports, at its own address."""
WAITS = re.compile(r"pipe: (no )?(sink|worker|ventilator) connected\b")
"""A start that is slow on a busy machine. No page shows it."""


@dataclass
class ShownCommand:
    """Command of a page, and the output that the page shows."""

    line: str
    expected: list[str] = field(default_factory=list)


@dataclass
class ConsolePage:
    """Files and commands of a page."""

    files: dict[str, str]
    commands: list[ShownCommand]


def parse_page(text: str) -> ConsolePage:
    """Return the files and commands of a page."""
    page = ConsolePage({}, [])
    for fence, body in re.findall(r"^```(\S+(?: \S+)?)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        language, _, name = fence.partition(" ")
        if name:
            page.files[name] = body
        elif language == "console":
            page.commands += _parse_commands(body)
    return page


def _parse_commands(block: str) -> list[ShownCommand]:
    commands: list[ShownCommand] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            commands.append(ShownCommand(line[2:]))
        elif line.startswith("> ") and commands and not commands[-1].expected:
            commands[-1].line += f"\n{line[2:]}"
        else:
            commands[-1].expected.append(line)
    return commands


def run_page(page: ConsolePage, folder: Path, shim: Path) -> list[list[str]]:
    """Run the page in `folder` with `pipe` from the folder `shim`, and return the output of each command."""
    for name, body in page.files.items():
        (folder / name).write_text(body)
    script = ["set +m"]
    for number, command in enumerate(page.commands):
        out = f"'{folder}/.out.{number}'"
        script.append(f"{{ {_replace_hosts(command.line)}\n}} > {out} 2>&1; {PRINT_EXIT_CODE} >> {out}")
    environment = {
        **{key: value for key, value in os.environ.items() if key not in {"COLUMNS", "LINES"}},
        "PATH": f"{shim}:{os.environ['PATH']}",
        "XDG_RUNTIME_DIR": str((shim.parent / "run").resolve()),
        "NO_COLOR": "1",
    }
    ran = subprocess.run(
        ["bash", "-c", "\n".join([*script, "wait"])],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert not ran.stderr, ran.stderr
    return [(folder / f".out.{number}").read_text().splitlines() for number in range(len(page.commands))]


def _replace_hosts(line: str) -> str:
    for page, test in HOSTS.items():
        line = line.replace(page, test)
    return line


def mask(line: str) -> str:
    """Replace the parts of the line that differ from run to run."""
    for pattern, stand_in in MASKS:
        line = re.sub(pattern, stand_in, line)
    return line.rstrip()


def matches(expected: list[str], actual: list[str]) -> bool:
    """Return whether the output matches the page.

    The order is compared within what pipe reports and within all else, not between the two: the sink writes results, and
    the other processes of a run report at the same time. Which line comes first is up to the scheduler.
    """
    return all(
        re.fullmatch(_pattern(select(expected, from_pipe)), "".join(f"{line}\n" for line in select(actual, from_pipe)))
        for from_pipe in (False, True)
    )


def select(lines: list[str], from_pipe: bool) -> list[str]:  # noqa: FBT001
    """The masked lines of one stream: what pipe reports, or all else."""
    lines = [line for line in lines if not WAITS.match(line)]
    return [mask(line) for line in lines if line == ANY_LINES or line.startswith("pipe: ") == from_pipe]


def _pattern(lines: list[str]) -> str:
    return "".join(r"(?:.*\n)*?" if line == ANY_LINES else re.escape(f"{line}\n") for line in lines)
