"""Whoever types a wrong word is told the right one."""

from __future__ import annotations

import pytest

from pipeline.cli.app import COMMANDS, parse
from pipeline.cli.options import ALIASES
from pipeline.cli.suggestions import PARALLEL_REPLACEMENTS
from pipeline.config.settings import OPTIONS
from pipeline.model.errors import UsageError

FLAGS = {flag for each in OPTIONS for flags in each.flags for flag in flags.split("/")}


def told(*words: str) -> str:
    """What is said of these words."""
    with pytest.raises(UsageError) as raised:
        parse(words)
    return str(raised.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--job", "3", "x"], "no such option: --job; did you mean --jobs, --joblog?"),
        (["run", "--jbos=3", "x"], "no such option: --jbos; did you mean --jobs?"),
        (["run", "--max-proc", "3", "x"], "no such option: --max-proc; did you mean --jobs?"),
        (["run", "--keep-ordr", "x"], "no such option: --keep-ordr; did you mean --keep-order?"),
        (["sink", "--resum"], "no such option: --resum; did you mean --resume-failed?"),
        (["run", "--frobnicate", "x"], "no such option: --frobnicate (see `pipe run --help`)"),
        (["run", "-y", "x"], "no such option: -y (see `pipe run --help`)"),
        (["run", "--eta", "x"], f"no such option: --eta; {PARALLEL_REPLACEMENTS['--eta']}"),
        (["run", "-k", "-I", "X", "x"], f"no such option: -I; {PARALLEL_REPLACEMENTS['-I']}"),
        (["run", "-kI", "X", "x"], f"no such option: -I; {PARALLEL_REPLACEMENTS['-I']}"),
        (["run", "-S", "host", "x"], f"no such option: -S; {PARALLEL_REPLACEMENTS['-S']}"),
        (["run", "--pipe", "x"], f"no such option: --pipe; {PARALLEL_REPLACEMENTS['--pipe']}"),
        (["work", "-k", "x"], "no such option: -k; it belongs to `pipe sink`, not to `pipe work`"),
        (["work", "--keeporder", "x"], "no such option: --keeporder; it belongs to `pipe sink`, not to `pipe work`"),
        (["sink", "-P4"], "no such option: -P; it belongs to `pipe work` and `pipe doctor`, not to `pipe sink`"),
        (["sink", "--resume"], "no such option: --resume; it belongs to `pipe run`, not to `pipe sink`"),
        (["run", "--no-bra", "x"], "no such option: --no-bra; did you mean --no-bar?"),
        (["run", "--jobs"], "option '--jobs' requires an argument: give it as `--jobs N`"),
        (["sink", "-o"], "option '-o' requires an argument: give it as `-o FILE`"),
        (["sink", "a", "b"], "too many words: a b (see `pipe sink --help`)"),
        (["run", "--keep-order=yes", "x"], "option '--keep-order' does not take a value (see `pipe run --help`)"),
    ],
)
def test_a_wrong_option_is_answered_with_the_right_one(words: list[str], said: str) -> None:
    assert told(*words) == said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rnu", "x"], "no such command: rnu; did you mean `pipe run`?"),
        (["worker", "x"], "no such command: worker; did you mean `pipe work`?"),
        (["Status"], "no such command: Status; did you mean `pipe top`?"),
        (["stop"], "no such command: stop; did you mean `pipe kill`?"),
        (["vent"], "no such command: vent; did you mean `pipe ventilate`?"),
        (
            ["wc -l {}", ":::", "a b"],
            "no such command: wc -l {}; to run it for each task: `pipe run 'wc -l {}' ::: 'a b'` (see `pipe --help`)",
        ),
        (
            ["-j4", "-k", "gzip", ":::", "a"],
            "no such option: -j; options stand behind the command: `pipe run -j4 -k gzip ::: ...` (see `pipe --help`)",
        ),
        (["--frobnicate=1"], "no such option: --frobnicate (see `pipe --help`)"),
        (["-V"], "no such option: -V (see `pipe --help`)"),
    ],
)
def test_a_wrong_first_word_is_answered_with_the_right_one(words: list[str], said: str) -> None:
    assert told(*words) == said


def test_what_stands_in_the_table_is_no_option_here() -> None:
    known = FLAGS | {alias for others in ALIASES.values() for alias in others.split()}
    assert not known & PARALLEL_REPLACEMENTS.keys()


def test_options_that_the_table_speaks_of_are_there() -> None:
    """A sentence about an option that was renamed would send a person in circles."""
    foreign = {"--help", "--version"}
    marks = "`;:,."
    spoken = [word.strip(marks) for each in PARALLEL_REPLACEMENTS.values() for word in each.split()]
    ours = {word for word in spoken if word.startswith("--") and word != "--"}
    assert len(ours) > 10
    assert ours - FLAGS - foreign == set()


def test_a_command_that_is_there_is_no_other_name_of_one() -> None:
    from pipeline.cli.suggestions import COMMAND_SYNONYMS

    assert set(COMMAND_SYNONYMS) <= set(COMMANDS)
    assert not set(COMMANDS) & {other for others in COMMAND_SYNONYMS.values() for other in others.split()}
