"""The script that completes `pipe` in zsh.

Promises: options end at the first word of COMMAND here, too; behind it zsh completes as if COMMAND stood alone. It runs
nothing but what the shell itself has, and `ls`.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pipeline.cli.bash import functions
from pipeline.cli.offers import Offers, filled

_SCRIPT = """#compdef pipe
# Completes `pipe` in zsh: source <(pipe completion zsh), after compinit
@names@
_pipe_offer() { # KIND: what begins like the word at the cursor
    case $1 in
        any | '') ;;
        file) _files ;;
        folder) _files -/ ;;
        command) _command_names -e ;;
        name) compadd -- ${(f)"$(_pipe_names)"} ;;
        *) compadd -- ${=1} ;;
    esac
}

_pipe() {
    local kind='' value='' at word
    local -a firsts flags # zsh has a `commands` and an `options` of its own
    firsts=(@commands@)
    if (( CURRENT == 2 )); then
        _describe command firsts
        return
    fi
    case $words[2] in
@offers@
    esac
    for ((at = 3; at < CURRENT; at++)); do
        word=$words[at]
        if [[ -n $value ]]; then
            value=
        elif [[ $word == --*=* ]]; then
            continue
        elif [[ $word == -* ]]; then
            value=$(_pipe_value $word)
        elif [[ $kind == command ]]; then
            shift $((at - 1)) words
            (( CURRENT -= at - 1 ))
            _normal
            return
        fi
    done
    if [[ -n $value ]]; then
        _pipe_offer $value
    elif [[ $words[CURRENT] == --*=* ]]; then
        value=$(_pipe_value ${words[CURRENT]%%=*})
        compset -P '*='
        _pipe_offer $value
    elif [[ $words[CURRENT] == -* ]]; then
        _describe option flags
    else
        _pipe_offer $kind
    fi
}
compdef _pipe pipe
"""


def script(commands: Sequence[Offers]) -> str:
    """The script, filled with what can be offered."""
    cases: list[str] = []
    for each in commands:
        pairs = [_described(flag, one.about) for one in each.options for flag in one.flags]
        cases += [f"        {each.command})", f"            kind={shlex.quote(each.words)}", "            flags=("]
        cases += [f"                {pair}" for pair in pairs]
        cases += ["            )", "            ;;"]
    names = " ".join(_described(each.command, each.about) for each in commands)
    return filled(_SCRIPT, names=functions(commands), commands=names, offers="\n".join(cases))


def _described(name: str, about: str) -> str:
    """As zsh's _describe wants it."""
    return shlex.quote(f"{name}:{about}")
