"""Hints for unknown options and commands."""

from __future__ import annotations

import pytest

from pipeline.cli.app import COMMANDS, parse
from pipeline.cli.suggestions import PARALLEL_REPLACEMENTS
from pipeline.config.settings import ALIASES, OPTIONS
from pipeline.model.errors import UsageError

FLAGS = {flag for each in OPTIONS for flags in each.flags for flag in flags.split("/")}


def error_text(*words: str) -> str:
    """Return the error and the hint for these words."""
    with pytest.raises(UsageError) as raised:
        parse(words)
    return f"{raised.value}; {raised.value.hint}"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "--job", "3", "x"], "no such option: --job; did you mean --jobs, --joblog?"),
        (["run", "--jbos=3", "x"], "no such option: --jbos; did you mean --jobs?"),
        (["run", "--max-proc", "3", "x"], "no such option: --max-proc; did you mean --jobs?"),
        (["run", "--keep-ordr", "x"], "no such option: --keep-ordr; did you mean --keep-order?"),
        (["sink", "--resum"], "no such option: --resum; did you mean --resume-failed?"),
        (["run", "--frobnicate", "x"], "no such option: --frobnicate; see `pipe run --help-all`"),
        (["run", "-y", "x"], "no such option: -y; see `pipe run --help-all`"),
        (["run", "--eta", "x"], f"no such option: --eta; {PARALLEL_REPLACEMENTS['--eta']}"),
        (["run", "-k", "-I", "X", "x"], f"no such option: -I; {PARALLEL_REPLACEMENTS['-I']}"),
        (["run", "-kI", "X", "x"], f"no such option: -I; {PARALLEL_REPLACEMENTS['-I']}"),
        (["run", "-S", "host", "x"], f"no such option: -S; {PARALLEL_REPLACEMENTS['-S']}"),
        (["run", "--pipe", "x"], f"no such option: --pipe; {PARALLEL_REPLACEMENTS['--pipe']}"),
        (["work", "-k", "x"], "no such option: -k; -k is an option of `pipe sink`, not of `pipe work`"),
        (
            ["work", "--keeporder", "x"],
            "no such option: --keeporder; --keeporder is an option of `pipe sink`, not of `pipe work`",
        ),
        (["sink", "-P4"], "no such option: -P; -P is an option of `pipe work` and `pipe doctor`, not of `pipe sink`"),
        (["sink", "--resume"], "no such option: --resume; --resume is an option of `pipe run`, not of `pipe sink`"),
        (["run", "--no-bra", "x"], "no such option: --no-bra; did you mean --no-bar?"),
        (["run", "--jobs"], "option '--jobs' requires an argument; give `--jobs N`"),
        (["sink", "-o"], "option '-o' requires an argument; give `-o FILE`"),
        (["sink", "a", "b"], "unexpected argument: a b; see `pipe sink --help`"),
        (["run", "--keep-order=yes", "x"], "option '--keep-order' does not take a value; see `pipe run --help`"),
    ],
)
def test_unknown_option_gets_a_hint(words: list[str], expected: str) -> None:
    assert error_text(*words) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["rnu", "x"], "no such command: rnu; did you mean `pipe run`?"),
        (["worker", "x"], "no such command: worker; did you mean `pipe work`?"),
        (["Status"], "no such command: Status; did you mean `pipe top`?"),
        (["stop"], "no such command: stop; did you mean `pipe kill`?"),
        (["vent"], "no such command: vent; did you mean `pipe ventilate`?"),
        (
            ["wc -l {}", ":::", "a b"],
            "no such command: wc -l {}; to run it for each task: `pipe run 'wc -l {}' ::: 'a b'`",
        ),
        (
            ["-j4", "-k", "gzip", ":::", "a"],
            "no such option: -j; options follow the command: `pipe run -j4 -k gzip ::: ...`",
        ),
        (["--frobnicate=1"], "no such option: --frobnicate; see `pipe --help`"),
        (["-V"], "no such option: -V; see `pipe --help`"),
    ],
)
def test_unknown_command_gets_a_hint(words: list[str], expected: str) -> None:
    assert error_text(*words) == expected


def test_replacement_table_has_no_option_of_pipe() -> None:
    known = FLAGS | {alias for others in ALIASES.values() for alias in others.split()}
    assert not known & PARALLEL_REPLACEMENTS.keys()


def test_replacement_hints_name_existing_options() -> None:
    generic = {"--help", "--version"}
    punctuation = "`;:,."
    hint_words = [word.strip(punctuation) for each in PARALLEL_REPLACEMENTS.values() for word in each.split()]
    options = {word for word in hint_words if word.startswith("--") and word != "--"}
    assert len(options) > 10
    assert options - FLAGS - generic == set()


def test_command_synonyms_are_not_commands() -> None:
    from pipeline.cli.suggestions import COMMAND_SYNONYMS

    assert set(COMMAND_SYNONYMS) <= set(COMMANDS)
    assert not set(COMMANDS) & {other for others in COMMAND_SYNONYMS.values() for other in others.split()}
