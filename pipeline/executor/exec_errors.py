"""Errors of exec as sentences, with the exit codes of /bin/sh.

The kernel gives one number for several mistakes: "no such file" may be the program, or the interpreter that its first
line names. So the file is read again after an error.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping, Sequence

from pipeline.model.errors import UsageError

NOT_FOUND_EXIT_CODE, NOT_EXECUTABLE_EXIT_CODE = 127, 126
EXIT_CODES = {
    errno.ENOENT: NOT_FOUND_EXIT_CODE,
    errno.ENOTDIR: NOT_FOUND_EXIT_CODE,
    errno.ELOOP: NOT_FOUND_EXIT_CODE,
    errno.ENAMETOOLONG: NOT_FOUND_EXIT_CODE,
    errno.EACCES: NOT_EXECUTABLE_EXIT_CODE,
    errno.ENOEXEC: NOT_EXECUTABLE_EXIT_CODE,
    errno.ETXTBSY: NOT_EXECUTABLE_EXIT_CODE,
    errno.E2BIG: NOT_EXECUTABLE_EXIT_CODE,
}
HEAD_BYTES = 256  # of a file, in which the kernel looks for an interpreter
FUNCTION_PREFIX, FUNCTION_SUFFIX = b"BASH_FUNC_", b"%%"
"""Around the name of a variable with which bash exports a function."""


def find_program(program: bytes) -> bytes | None:
    """Return the executable file, looked up in PATH unless the name contains a slash; None if there is none."""
    directories = [""] if b"/" in program else os.get_exec_path()
    for directory in directories:
        path = os.path.join(os.fsencode(directory), program)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def not_found_error(program: bytes) -> UsageError:
    """Return the error for a program that `find_program` did not find."""
    name = os.fsdecode(program)
    if is_bash_function(program, os.environb):
        return UsageError(f"command not found: {name}", f"it is a function of bash: run {_function_call(name)}")
    if b"/" not in program:
        return UsageError(f"command not found: {name}", "no directory of PATH contains it")
    try:
        os.stat(program)
    except OSError as error:
        return UsageError(describe_missing_file(name, error.errno or 0))
    if os.path.isdir(program):
        return UsageError(f"{name} is a directory, not a command")
    return UsageError(f"{name} is not executable", f"run `chmod +x {name}`, or put its interpreter before it")


def describe_exec_error(number: int, argv: Sequence[bytes], environment: Mapping[bytes, bytes]) -> str:
    """Return the sentence for an error of EXIT_CODES, which this command got in this environment."""
    program = b"".join(argv[:1])
    name, path = printable(program), find_program(program)
    match number:
        case errno.ENOENT if path:
            return _missing_interpreter(name, path)
        case errno.ENOENT if is_bash_function(program, environment):
            return f"command not found: {name} is a function of bash: use {_function_call(name)}"
        case errno.EACCES:
            return _permission_denied(name, path)
        case errno.ENOEXEC:
            return f"not a program for this machine: {name}"
        case errno.ETXTBSY:
            return f"text file busy: {name} is open for writing"
        case errno.E2BIG:
            return f"argument list too long: {name}: {_size_over_limit(argv, environment)}"
        case errno.ELOOP if path:
            return f"too many interpreters: that of {name} is a script itself, and so on"
    return describe_missing_file(name, number)


def describe_missing_file(name: str, number: int) -> str:
    """Return the sentence for a path that leads to no file."""
    if number == errno.ELOOP:
        return f"too many symbolic links: {name}"
    if number == errno.ENAMETOOLONG:
        return f"file name too long: {name}"
    if number == errno.EACCES:
        return f"permission denied: a directory of {name} cannot be entered"
    if os.path.islink(name):
        return f"command not found: {name} is a symbolic link to {os.readlink(name)}"
    return f"command not found: {name}"


def is_binary(path: bytes) -> bool:
    """Return whether a file without interpreter is not a script: as for bash, its first line contains a NUL byte."""
    return b"\0" in _read_head(path).partition(b"\n")[0]


def is_bash_function(name: bytes, environment: Mapping[bytes, bytes]) -> bool:
    """Return whether bash has exported a function of this name, which other programs do not know."""
    return FUNCTION_PREFIX + name + FUNCTION_SUFFIX in environment


def bash_function_note(line: bytes, environment: Mapping[bytes, bytes]) -> str:
    """Return a note for a shell line with exit code 127 that contains the name of a function of bash; else empty."""
    for word in re.findall(rb"[^\s;|&()`$\"']+", line):
        if is_bash_function(word, environment):
            name = printable(word)
            return f" ({name} is a function of bash: use {_function_call(name)})"
    return ""


def printable(text: bytes) -> str:
    """Return a name as text, with control characters shown as escapes."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text.decode(errors="backslashreplace"))


def _function_call(name: str) -> str:
    return f"""`pipe run bash -c '{name} "$1"' _ {{}}`"""


def _missing_interpreter(name: str, path: bytes) -> str:
    first_line = _read_head(path).partition(b"\n")[0]
    if not first_line.startswith(b"#!"):
        return f"dynamic loader not found: {name} was built for another system"
    text = f"interpreter not found: {name} begins with {printable(first_line)}"
    if first_line.endswith(b"\r"):
        text += rf", which ends in a carriage return (\r): remove it from each line with `sed -i 's/\r$//' {name}`"
    return text


def _permission_denied(name: str, path: bytes | None) -> str:
    if os.path.isdir(name):
        return f"permission denied: {name} is a directory"
    if path is None and "/" not in name:
        return f"permission denied: PATH has {name}, but not executable"
    if path is None:
        return f"permission denied: {name} is not executable; `chmod +x {name}` makes it so"
    first_line = _read_head(path).partition(b"\n")[0]
    if first_line.startswith(b"#!"):
        return f"permission denied: {name} begins with {printable(first_line)}, which is not executable"
    return f"permission denied: {name}: its file system allows no execution"


def _size_over_limit(argv: Sequence[bytes], environment: Mapping[bytes, bytes]) -> str:
    from pipeline.system.exec_limits import MAX_WORD_BYTES, environment_size, max_exec_bytes, words_size

    longest = max(map(len, argv))
    if longest >= MAX_WORD_BYTES:
        return f"a word has {longest:,} bytes, and Linux takes {MAX_WORD_BYTES - 1:,}; --stdin has no such limit"
    size, limit = words_size(argv) + environment_size(environment), max_exec_bytes()
    return f"command and environment take {size:,} bytes, and `ulimit -s` allows {limit:,}"


def _read_head(path: bytes) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""
