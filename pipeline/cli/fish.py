"""The script that completes `pipe` in fish.

Promises: options end at the first word of COMMAND here, too; behind it files are offered. It runs nothing but what the
shell itself has, `ls` and `id`.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.cli.offers import Offer, Offers, filled

_SCRIPT = """# Completes `pipe` in fish: pipe completion fish > ~/.config/fish/completions/pipe.fish
function __pipe_names
    set -q XDG_RUNTIME_DIR; and command ls -- $XDG_RUNTIME_DIR/pipe 2>/dev/null; and return
    set -q TMPDIR; or set -l TMPDIR /tmp
    command ls -- $TMPDIR/pipe-(id -u) 2>/dev/null
end

function __pipe_first -d 'Is the cursor at the first word?'
    test (count (commandline -opc)) -eq 1
end

function __pipe_in -d 'Is the cursor at the options of one of these commands, and not behind the first word of COMMAND?'
    set -l words (commandline -opc)
    contains -- "$words[2]" $argv; or return 1
    contains -- "$words[2]" @runners@; or return 0
    set -l value no
    for word in $words[3..-1]
        if test $value = yes
            set value no
        else if not string match -q -- '-*' $word
            return 1
        else if string match -qr -- '^(@valued@|-[@bare@]+[@letters@])$' $word
            set value yes
        end
    end
end

function __pipe_behind -d 'Is the cursor behind the first word of COMMAND?'
    set -l words (commandline -opc)
    contains -- "$words[2]" @runners@; and not __pipe_in @runners@
end

complete -c pipe -f
complete -c pipe -n '__pipe_first' -l help -d 'show the help'
complete -c pipe -n '__pipe_first' -l version -d 'show the version'
complete -c pipe -n __pipe_behind -F
@offers@
"""

_KINDS = {
    "": "",
    "any": " -x",
    "file": " -r -F",
    "folder": " -x -a '(__fish_complete_directories)'",
    "name": " -x -a '(__pipe_names)'",
}
"""How fish is told of a value of this kind; choices are told as they are."""
_WORDS = {"command": " -a '(__fish_complete_command)'", "file": " -F"}


def script(commands: Sequence[Offers]) -> str:
    """The script, filled with what can be offered."""
    options = {one.flags[0]: one for each in commands for one in each.options}
    lines = [f"complete -c pipe -n __pipe_first -a {each.command} -d {_quoted(each.about)}" for each in commands]
    for name, one in options.items():
        on = " ".join(each.command for each in commands if any(other.flags[0] == name for other in each.options))
        kind = _KINDS.get(one.kind, f" -x -a '{one.kind}'")
        lines.append(f"complete -c pipe -n '__pipe_in {on}' {_flags(one)}{kind} -d {_quoted(one.about)}")
    for each in commands:
        if each.words:
            kind = _WORDS.get(each.words, f" -a '{each.words}'")
            lines.append(f"complete -c pipe -n '__pipe_in {each.command}'{kind}")
    runners = " ".join(each.command for each in commands if each.words == "command")
    return filled(_SCRIPT, offers="\n".join(lines), runners=runners, **_valued(list(options.values())))


def _valued(options: Sequence[Offer]) -> dict[str, str]:
    """Which options have a value, and which letters have one or none."""
    known = [(flag, one.kind) for one in options for flag in (*one.flags, *one.hidden)]
    short = [(flag[1], kind) for flag, kind in known if not flag.startswith("--")]
    return {
        "valued": "|".join(flag for flag, kind in known if kind),
        "bare": "".join(letter for letter, kind in short if not kind),
        "letters": "".join(letter for letter, kind in short if kind),
    }


def _flags(one: Offer) -> str:
    return " ".join(f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in one.flags)


def _quoted(text: str) -> str:
    """In fish's quotes."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
