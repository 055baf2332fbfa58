"""The worker in docs/protocol.md, which does not import this package, works in a real pipeline."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.transport.codec import MESSAGE_CODECS
from tests.support.processes import ROOT


WITHIN = 60.0
TASKS = 5000


class Started:
    """Processes that end with the test."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o700)
        self._environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}
        self._processes: list[subprocess.Popen[bytes]] = []

    def python(self, *words: str, house: bool = False) -> subprocess.Popen[bytes]:
        path = {"PYTHONPATH": str(ROOT)} if house else {}
        environment = {key: value for key, value in self._environment.items() if key != "PYTHONPATH"} | path
        self._processes.append(subprocess.Popen([sys.executable, *words], env=environment, cwd="/"))
        return self._processes[-1]

    def pipe(self, *words: str) -> subprocess.Popen[bytes]:
        return self.python("-m", "pipeline", *words, "--name", "doc", "--quiet", house=True)

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait(WITHIN)


@pytest.fixture
def runtime() -> Iterator[Path]:
    """Make a private runtime folder; the paths of pytest may be too long for ipc."""
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def started(runtime: Path) -> Iterator[Started]:
    made = Started(runtime)
    yield made
    made.end()


@pytest.fixture
def worker(tmp_path: Path) -> Path:
    """Write the only Python block of the document to a file."""
    blocks = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "docs" / "protocol.md").read_text(), re.DOTALL | re.MULTILINE
    )
    (text,) = blocks
    assert "pipeline" not in text
    path = tmp_path / "worker.py"
    path.write_text(text)
    return path


def test_worker_of_the_protocol_page_works(started: Started, worker: Path, runtime: Path, tmp_path: Path) -> None:
    records = [f"task {number} ü" for number in range(TASKS)]
    (tmp_path / "in").write_text("".join(f"{record}\n" for record in records))
    sink = started.pipe("sink", "-o", f"{tmp_path}/out", "-k")
    ventilator = started.pipe("ventilate", f"{tmp_path}/in")
    theirs = started.python(str(worker), f"ipc://{runtime}/pipe/doc/registry")
    assert [process.wait(WITHIN) for process in (theirs, ventilator, sink)] == [0, 0, 0]
    upper = "".join(f"{record}\n" for record in records).encode().upper()
    assert (tmp_path / "out").read_bytes() == upper
    assert not (runtime / "pipe" / "doc").exists()


def fields_of(text: str) -> tuple[list[str], list[str]]:
    """Return the header fields and the bodies that the document names for a message, in order."""
    rows: list[str] = re.findall(r"^\| ([^|]+) \|", text.partition("|---|")[2], re.MULTILINE)
    if not rows:
        rows = [re.sub(r"\([^()]*\)", "", text.partition("Fields: ")[2]).rstrip(".\n ")]
    names = [name.strip() for row in rows for name in row.split(",")]
    return [name for name in names if "*" not in name], [name.strip("*") for name in names if "*" in name]


def test_protocol_page_has_each_message_with_its_fields() -> None:
    text = (ROOT / "docs" / "protocol.md").read_text().partition("## Messages")[2].partition("## Rules")[0]
    parts = dict(re.findall(r"^\*\*(\w+)\*\*:(.*?)(?=^\*\*|\Z)", text, re.DOTALL | re.MULTILINE))
    assert {word: fields_of(part) for word, part in parts.items()} == {
        form.kind.__struct_config__.tag: (form.fields, form.bodies) for form in MESSAGE_CODECS
    }
