"""The parser of plain command lines agrees with click wherever it answers."""

from __future__ import annotations

import random

import pytest

from pipeline.cli.app import COMMANDS
from pipeline.cli.click_parser import parse_command
from pipeline.cli.plain_parser import TypedOptions, parse_plain
from pipeline.config.settings import ALIASES, OPTIONS, Settings, parse_settings
from pipeline.model.errors import UsageError

VALUES = ("", "-", "--", "-1", "1", "a b", "x=y", "--tag", "-k", "-kq", ":::", "{}", "=", "-j4", "--jobs=2", "-o=x")
COMMAND_LINES = 400


def words_of(rng: random.Random, command: str) -> list[str]:
    """Return a random command line: flags in all their spellings, values, and words that are neither."""
    flags = [
        name
        for each in OPTIONS
        if command in each.on or (each.flags and rng.random() < 0.02)
        for flag in (*each.flags, *ALIASES.get(each.flags[0], "").split())
        for name in flag.split("/")
    ]
    words = []
    for _ in range(rng.randint(0, 5)):
        flag, value = rng.choice([*flags, "--help", "--nothing", "-Z"]), rng.choice(VALUES)
        words += rng.choice([[flag], [flag, value], [f"{flag}={value}"], [f"{flag}{value}"], [value], [flag[:-1]]])
    return words


def settings_of(typed: TypedOptions | int) -> Settings | str:
    assert isinstance(typed, dict)
    try:
        return parse_settings(typed)
    except UsageError as error:
        return str(error)


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "lab"])
def test_plain_parser_agrees_with_click(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(command)
    answered = 0
    for _ in range(COMMAND_LINES):
        words = words_of(rng, command)
        plain = parse_plain(command, words)
        if plain is not None:
            answered += 1
            assert settings_of(plain) == settings_of(parse_command(command, words)), words
    assert answered > COMMAND_LINES / 20
    capsys.readouterr()


@pytest.mark.parametrize(
    "words",
    [
        "-q echo",
        "-kj4 -o out --failed=f gzip -k {}",
        "--no-bar -vv --call m:f",
        "-0 -X -- -x",
        "--heartbeat-interval 2 ls",
    ],
)
def test_usual_command_lines_need_no_click(words: str) -> None:
    assert parse_plain("run", words.split()) is not None
