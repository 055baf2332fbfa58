"""The same command line in GNU parallel and `pipe run`: equal stdout and success.

A separate table lists the intended differences with their reasons.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT

WITHIN = 60.0
GNU = shutil.which("parallel")
pytestmark = pytest.mark.skipif(GNU is None, reason="GNU parallel is not installed")

# each line of a table: the words as for a shell, then what is read from stdin, if anything
TABLES: dict[str, list[tuple[str, bytes]]] = {
    "replacements": [
        ("echo {.} {/} {//} {/.} ::: 'a b/c.tar.gz' .bashrc dir.d/file /x a/ a/.b plain", b""),
        ("echo {#} {} ::: a b c", b""),
        ("-j1 'echo {%}' ::: a b", b""),
        ("echo {2.} {1/} {-1} {-2} ::: x/y.z q ::: c.d", b""),
        ("echo '[{3}]' ::: a ::: b", b""),
        ("'echo {}; echo {}' ::: 'a b' 'c'", b""),
        ("'echo $PARALLEL_SEQ {}' ::: a b c", b""),
    ],
    "quoting": [
        ("echo ::: 'a b' \"it's\" '$HOME' '`x`' '*' '\\' '\"' 'a;b' '&' '|' '' '-n'", b""),
        ("'printf %s, {}' ::: 'a  b' 'x\ty' \"q'q\"", b""),
        ("'cat {}' ::: /dev/null", b""),
        ("-0 'printf %s, {}'", b"a\nb\0c d\0"),
        ("'echo ü{}' ::: ä 日本", b""),
    ],
    "sources": [
        ("echo {} ::: a b ::: c d ::: e f", b""),
        ("echo {} ::: a b c :::+ d e", b""),
        ("echo {} ::: 1 2 ::: a b :::+ c d", b""),
        ("echo {} :::: letters numbers", b""),
        ("echo {} :::: letters ::::+ numbers", b""),
        ("echo {} :::: letters ::: q r", b""),
        ("-a letters 'echo [{}]'", b""),
        ("echo :::", b""),
        ("'echo {}'", b"one\ntwo\n\nlast without end"),
        ("'echo {}'", b""),
        ("echo {} :::: - ::: 1 2", b"x\ny\n"),
    ],
    "columns": [
        ("--colsep , 'echo {2}{1}'", b"a,b\nc , d\n"),
        ("--colsep '\t' 'echo {1}+{2}+{3}'", b"a\tb\nc\td\te\n"),
        ("--colsep ' +' 'echo [{1}][{2}]'", b"a   b\n"),
        ("-C , 'echo {}'", b"a,b c,d\n"),
        ("--colsep , 'echo {-1}' ::: a,b,c d", b""),
        ("--colsep , --header : 'echo {b}{a}'", b"a,b\n1,2\n3,4\n"),
        ("--header : echo {x}-{y} ::: x 1 2 ::: y 3 4", b""),
        ("--header : --colsep , 'echo {a.} {a/}'", b"a,b\nd/x.y,2\n"),
    ],
    "many to a command": [
        ("-n2 echo {} ::: a b c", b""),
        ("-N3 'echo {1}-{2}-{3}' ::: a b c d", b""),
        ("-n2 'echo p{}.jpg' ::: 1 2 3", b""),
        ("-n2 --colsep , 'echo {1}{3}'", b"a,b\nc,d\ne,f\n"),
        ("-X -j1 'echo p{}.jpg' ::: 1 2 3", b""),
        ("-X -j2 'echo {}' ::: 1 2 3 4 5", b""),
        ("-X -j1 'echo {.} {/}' ::: a/b.c d/e.f", b""),
        ("-X -n2 echo ::: 1 2 3 4 5", b""),
        ("-n2 -0 'printf %s, {}'", b"a b\0c\0d\0"),
    ],
    "results": [
        ("--tag 'echo x; echo y' ::: a b", b""),
        ("--tag 'printf x' ::: a b", b""),
        ("--tag true ::: a b", b""),
        ("--tag echo ::: a b ::: c d", b""),
        ("--tagstring '{2}:{1}' 'echo {1}' ::: a ::: c d", b""),
        ("'echo {}; sleep 0.{}' ::: 3 1 2", b""),
        ("--line-buffer -j1 'echo {}; echo {}' ::: a b", b""),
        ("'echo out {}; echo err {} >&2' ::: a b", b""),
        ("'printf no-newline-{}' ::: a b", b""),
        ("'echo {}; exit {}' ::: 0 1 2", b""),
        ("--retries 3 'echo {}; false' ::: a", b""),
        ("--halt now,fail=1 -j1 'echo {}; test {} = a || sleep 9; false' ::: a b c", b""),
        ("--halt now,fail=2 -j1 'echo {}; test {} -lt 4'", b"".join(b"%d\n" % task for task in range(40))),
        ("--halt soon,success=3 -j1 'echo {}; test {} -gt 2'", b"".join(b"%d\n" % task for task in range(40))),
        ("--halt soon,done=20% -j1 'echo {}; test {} = 1'", b"".join(b"%d\n" % task for task in range(40))),
        ("--timeout 1 'echo {}; sleep {}' ::: 5 0", b""),
    ],
    "command lines": [
        ("", b"echo a b\n\necho 'c  d'; echo e\nexit 0\n"),
        ("::: 'echo a' 'echo \"b  c\"'", b""),
        ("::: echo printf ::: x y", b""),
    ],
}
DIFFERENCES = [
    # several words are an argv without a shell; GNU parallel joins them to a shell line
    ("echo '$HOME' {} ::: a", "$HOME a\n"),
    # a task is quoted also where the command begins with it
    ("'{} {}' ::: 'echo x'", ""),
    # several -a are read in turn, not combined
    ("-a letters -a numbers echo", "x\ny\n1\n2\n"),
    # --shuf is the same each time for the same input
    ("--shuf echo ::: 1 2 3 4 5", "1\n3\n5\n4\n2\n"),
    # an empty column of a line that is too short is empty, and so is one that is missing
    ("--colsep , 'echo [{1}][{2}]' ::: a", "[a][]\n"),
    # within double quotes an argument is quoted as well as outside, and shows no quotes
    ("'echo \"{}\"' ::: 'a b'", "a b\n"),
    # within double quotes several arguments are one word
    ("-n2 'printf \"%s,\" \"{}\"' ::: a 'b c'", "a b c,"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "letters").write_text("x\ny\n")
    (tmp_path / "numbers").write_text("1\n2\n")
    (tmp_path / "home").mkdir()
    return tmp_path


def ran(program: str, words: str, read: bytes, folder: Path) -> tuple[bytes, int]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder / "home"), "SHELL": "/bin/sh"}
    ended = subprocess.run(
        ["sh", "-c", f"exec {program} {words}"],
        input=read,
        cwd=folder,
        env=environment,
        capture_output=True,
        check=False,
        timeout=WITHIN,
    )
    return ended.stdout, ended.returncode


def theirs(words: str, read: bytes, folder: Path) -> tuple[bytes, int]:
    return ran("parallel --will-cite -k", words, read, folder)


def ours(words: str, read: bytes, folder: Path) -> tuple[bytes, int]:
    return ran(f"'{sys.executable}' -m pipeline run --quiet -k", words, read, folder)


@pytest.mark.parametrize("theme", TABLES)
def test_output_matches_gnu_parallel(theme: str, folder: Path) -> None:
    wrong = []
    for words, read in TABLES[theme]:
        expected, code = theirs(words, read, folder)
        found, own = ours(words, read, folder)
        if (found, bool(own)) != (expected, bool(code)):
            wrong.append(f"{words}\n  GNU parallel: {code} {expected!r}\n  pipe: {own} {found!r}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("words", "expected"), DIFFERENCES)
def test_output_differs_from_gnu_parallel_where_documented(words: str, expected: str, folder: Path) -> None:
    found, _ = ours(words, b"", folder)
    assert found.decode() == expected
    assert theirs(words, b"", folder)[0] != found or "--shuf" in words or "--colsep" in words


@pytest.mark.parametrize(
    "words",
    [
        "'echo {} {.}' ::: 'a b.c' \"it's\" '$x' ''",
        "--colsep , 'echo {2} {1}' ::: 'a b,c'",
        "-n2 echo ::: a 'b c' d",
    ],
)
def test_dry_run_output_runs_the_same(words: str, folder: Path) -> None:
    lines = [program(f"--dry-run {words}", b"", folder)[0] for program in (theirs, ours)]
    outcomes = [subprocess.run(["sh", "-c", line], capture_output=True, check=True).stdout for line in lines]
    assert outcomes[0] == outcomes[1] == theirs(words, b"", folder)[0]


def nine(path: Path) -> list[dict[str, str]]:
    """Read a joblog as scripts do: by the column names of its first line."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_joblog_is_readable_by_existing_scripts(folder: Path) -> None:
    words = "--timeout 2 'test {} = k && kill -9 $$; test {} = t && sleep 9; echo {}; exit 3' ::: a k t 'b c'"
    theirs(f"--joblog theirs {words}", b"", folder)
    ours(f"--joblog ours {words}", b"", folder)
    head, own = ((folder / name).read_text().splitlines()[0] for name in ("theirs", "ours"))
    assert own.startswith(f"{head}\t")
    columns = [name for name in head.split("\t") if name not in {"Starttime", "JobRuntime"}]

    def read(name: str) -> list[list[str]]:
        return sorted([row[column] for column in columns] for row in nine(folder / name))

    assert [[field.replace("'", "") for field in row] for row in read("ours")] == [
        [field.replace("'", "") for field in row] for row in read("theirs")
    ]
    widths = re.compile(r"^\d+\t:\t\d+\.\d{3}\t *\d+\.\d{3}\t")
    assert all(widths.match(line) for line in (folder / "ours").read_text().splitlines()[1:])
    awk = ["awk", "-F\t", "NR > 1 && ($7 != 0 || $8 != 0) {n++} END {print n}"]
    counted = [subprocess.run([*awk, folder / name], capture_output=True, check=True) for name in ("theirs", "ours")]
    assert counted[0].stdout == counted[1].stdout == b"4\n"


@pytest.mark.parametrize(
    "words",
    [
        f"::: a/b 'c d' 'e\\f' {'z' * 300} ::: 1 2",
        "--header : ::: y 1 2 ::: 10x 3 ::: 9x 4",
        "--colsep , ::: p,q r,s",
    ],
    ids=["plain", "named", "columns"],
)
def test_results_folder_has_the_same_layout(words: str, folder: Path) -> None:
    options, _, tasks = words.partition(":::")
    for name, program in (("theirs", theirs), ("ours", ours)):
        program(f"--results {name} {options} 'printf %s, {{}}; printf %s, {{}} >&2' :::{tasks}", b"", folder)

    def tree(name: str) -> dict[str, str]:
        files = [path for path in (folder / name).rglob("*") if path.is_file()]
        return {str(path.relative_to(folder / name)): path.read_text() for path in files}

    assert tree("ours") == tree("theirs")
    assert len(tree("ours")) >= 6


def test_results_csv_starts_with_its_header(folder: Path) -> None:
    words = "'echo {1}; echo e >&2; exit {2}' ::: a 'b,\"c' ::: 0 3"
    theirs(f"--results theirs.csv {words}", b"", folder)
    ours(f"-o ours.csv {words}", b"", folder)
    first, own = (list(csv.DictReader((folder / name).open(newline=""))) for name in ("theirs.csv", "ours.csv"))
    names = [name for name in first[0] if name not in {"Starttime", "JobRuntime", "Command"}]
    assert [[row[name] for name in names] for row in first] == [[row[name] for name in names] for row in own]
    heads = [(folder / name).read_text().splitlines()[0] for name in ("theirs.csv", "ours.csv")]
    assert heads[1].startswith(f"{heads[0]},")
