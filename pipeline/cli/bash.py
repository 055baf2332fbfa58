"""The script that completes `pipe` in bash, and what zsh shares with it.

Promises: options end at the first word of COMMAND here, too; behind it files are offered, or what bash-completion has
for that command. It runs nothing but what the shell itself has, and `ls`.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pipeline.cli.offers import Offers, filled

_FUNCTIONS = """
_pipe_names() { # the pipelines of this user
    local folder=${XDG_RUNTIME_DIR:+$XDG_RUNTIME_DIR/pipe}
    command ls -- "${folder:-${TMPDIR:-/tmp}/pipe-$UID}" 2>/dev/null
}

_pipe_value() { # OPTION: what kind of value it takes; of a bundle like -ko, its last one
    local letters
    case $1 in
@values@
        --*) ;;
        -??*)
            letters=${1#-}
            while [ -n "$letters" ]; do
                if [ -n "$(_pipe_value "-${letters:0:1}")" ]; then
                    [ ${#letters} -gt 1 ] || _pipe_value "-$letters"
                    return
                fi
                letters=${letters:1}
            done
            ;;
    esac
}
"""
_SCRIPT = """# Completes `pipe` in bash: source <(pipe completion bash)
@names@
_pipe_offer() { # KIND: what begins like the word at the cursor
    case $1 in
        any | '') ;;
        file) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
        folder) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$current") ;;
        command)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -c -- "$current" | sort -u; compgen -d -- "$current")
            ;;
        name) mapfile -t COMPREPLY < <(compgen -W "$(_pipe_names)" -- "$current") ;;
        *) mapfile -t COMPREPLY < <(compgen -W "$1" -- "$current") ;;
    esac
}

_pipe() {
    local current=${COMP_WORDS[COMP_CWORD]} options='' words='' value='' at word
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        _pipe_offer '@commands@ --help --version'
        return
    fi
    case ${COMP_WORDS[1]} in
@offers@
    esac
    for ((at = 2; at < COMP_CWORD; at++)); do
        word=${COMP_WORDS[at]}
        if [ -n "$value" ]; then
            [ "$word" = = ] || value=
        elif [[ $word == -* ]]; then
            value=$(_pipe_value "$word")
        elif [ "$words" = command ]; then
            words=file options=''
            if declare -F _command_offset >/dev/null; then
                _command_offset "$at"
                return
            fi
            break
        fi
    done
    [ "$current" != = ] || current=
    if [ -n "$value" ]; then
        _pipe_offer "$value"
    elif [[ $current == -* && -n $options ]]; then
        _pipe_offer "$options"
    else
        _pipe_offer "$words"
    fi
}
complete -F _pipe pipe
"""


def script(commands: Sequence[Offers]) -> str:
    """The script, filled with what can be offered."""
    cases = []
    for each in commands:
        flags = shlex.quote(" ".join(flag for one in each.options for flag in one.flags))
        cases.append(f"        {each.command}) options={flags} words={shlex.quote(each.words)} ;;")
    names = " ".join(each.command for each in commands)
    return filled(_SCRIPT, names=functions(commands), commands=names, offers="\n".join(cases))


def functions(commands: Sequence[Offers]) -> str:
    """What names are there, and which option takes what, for bash and zsh."""
    kinds: dict[str, list[str]] = {}
    for each in {one.flags: one for command in commands for one in command.options}.values():
        if each.kind:
            kinds.setdefault(each.kind, []).extend((*each.flags, *each.hidden))
    values = [f"        {' | '.join(flags)}) echo {shlex.quote(kind)} ;;" for kind, flags in kinds.items()]
    return filled(_FUNCTIONS, values="\n".join(values))
