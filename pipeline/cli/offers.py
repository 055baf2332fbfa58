"""What can stand behind `pipe`, for a shell that completes it: commands, options, and the kinds of their values.

Promises: all of it comes from the fields of Settings, so that no shell can offer what is not there.
"""

from __future__ import annotations

import re
from importlib import import_module

from msgspec import Struct

from pipeline.cli.signature import ALIASES
from pipeline.lab import PROGRAMS
from pipeline.words.kinds import COMMAND, FILE, FLAG, FOLDER, NAME, PROGRAM, Kind
from pipeline.words.settings import OPTIONS, Option


class Offer(Struct, frozen=True):
    """One option: its flags, other names of it that are known and not offered, the kind of its value, its sentence.

    A kind is `file`, `folder`, `name`, `any`, choices with spaces between, or empty: a flag has no value.
    """

    flags: tuple[str, ...]
    hidden: tuple[str, ...]
    kind: str
    about: str


class Offers(Struct, frozen=True):
    """One command: its sentence, its options, and the kind of its words; `command`: another command line begins."""

    command: str
    about: str
    options: tuple[Offer, ...]
    words: str


def offers(command: str) -> Offers:
    """What can stand behind `pipe COMMAND`."""
    options = [_offer(each) for each in OPTIONS if command in each.on]
    options.append(Offer(("--help", "-h"), (), "", "show the help"))
    words = [kind_of(each.kind) for each in OPTIONS if command in each.words]
    about = import_module(f"pipeline.cli.{command}").HELP.partition("\n")[0]
    return Offers(command, about, tuple(options), words[0] if words else "")


def kind_of(kind: Kind) -> str:
    """What a shell is to offer for a value of this kind."""
    if re.fullmatch(r"[a-z]+(\|[a-z]+)+", kind.metavar):
        return kind.metavar.replace("|", " ")
    if kind is PROGRAM:
        return " ".join(PROGRAMS)
    known = {FILE.metavar: "file", FOLDER.metavar: "folder", NAME.metavar: "name", COMMAND.metavar: "command"}
    return "" if kind is FLAG else known.get(kind.metavar, "any")


def _offer(each: Option) -> Offer:
    flags = tuple(flag for written in each.flags for flag in written.split("/"))
    hidden = tuple(ALIASES.get(each.flags[0], "").split())
    return Offer(flags, hidden, kind_of(each.kind), each.about)


def filled(script: str, **parts: str) -> str:
    """The script with each @name@ replaced by its part."""
    for name, part in parts.items():
        script = script.replace(f"@{name}@", part)
    return script
