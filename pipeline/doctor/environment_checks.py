"""Directories, leftovers, versions, clock, terminal.

The folders of a run: where stations meet, where results wait, what dead runs have left; one small look each.

Promises: what is tried is undone at once, and nothing else is changed: what is left over is named and not removed.

What `pipe` is made of and where it stands: versions, the clock, the terminal; one small look each.

Promises: a library that is missing or too old is named with what installs it. Changes nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from importlib import metadata

from pipeline import __version__
from pipeline.doctor.system_checks import GIB, MIB, CheckResult, format_bytes
from pipeline.system.resources import read_small_file
from pipeline.transport import endpoints

MAX_SOCKET_NAME_BYTES = len("/run-4194304/lane.4194304.99999")
"""Bytes of a run's longest socket below the runtime folder."""
LOW_SPACE_BYTES, MIN_SPACE_BYTES = GIB, 64 * MIB
MEMORY_FILESYSTEMS = {"tmpfs", "ramfs"}
NETWORK_FILESYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "afs", "ceph", "lustre", "glusterfs"}


def check_runtime_folder(folder: str = "") -> CheckResult:
    """Whether the folder of sockets is this user's alone, and short enough for ipc."""
    path, name = folder or str(endpoints.runtime_folder()), "runtime folder"
    another = "set XDG_RUNTIME_DIR to a short folder of yours, of mode 0700"
    room = endpoints.MAX_PATH_BYTES - len(os.fsencode(path)) - MAX_SOCKET_NAME_BYTES
    if room < 0:
        return CheckResult(name, "bad", f"{path} is {-room} bytes too long for the sockets of ipc", another)
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        above = os.path.dirname(path)
        if os.access(above, os.W_OK | os.X_OK):
            return CheckResult(name, "ok", f"{path} will be made")
        return CheckResult(name, "bad", f"{path} can't be made: {above} is not there, or can't be written", another)
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode):
        return CheckResult(name, "bad", f"{path} is not a folder of yours", another)
    if status.st_mode & 0o077:
        mode = f"{stat.S_IMODE(status.st_mode):04o}"
        return CheckResult(name, "bad", f"{path} can be entered by others ({mode}): refused", f"chmod 700 {path}")
    return CheckResult(name, "ok", f"{path}, for this user alone, with {room} bytes of its path to spare")


def check_sockets(folder: str = "") -> CheckResult:
    """Whether a socket can be bound and found there: some file systems have none."""
    path = folder or str(endpoints.runtime_folder())
    base = path if os.path.isdir(path) else os.path.dirname(path)
    try:
        with tempfile.TemporaryDirectory(prefix="try", dir=base) as made, closing(socket.socket(socket.AF_UNIX)) as one:
            one.bind(f"{made}/s")
            one.listen()
            with closing(socket.socket(socket.AF_UNIX)) as other:
                other.connect(f"{made}/s")
    except OSError as error:
        says = f"none can be made in {base}: {error.strerror or error}"
        return CheckResult("sockets", "bad", says, "set XDG_RUNTIME_DIR to a short folder on a local file system")
    return CheckResult("sockets", "ok", "can be made and reached there")


def check_temporary_folder(folder: str = "", mounts: str = "/proc/self/mounts", free_bytes: int = -1) -> CheckResult:
    """Whether what waits for its turn, and is larger than memory allows, has a place."""
    path = folder or os.environ.get("TMPDIR") or tempfile.gettempdir()
    elsewhere = "set TMPDIR to a folder on a disk with more room"
    left, wrong = _free_space(path, free_bytes)
    if wrong:
        return CheckResult("TMPDIR", "bad", wrong, "set TMPDIR to a folder that you may write to")
    says = f"{path} has {format_bytes(left)} free"
    if left < LOW_SPACE_BYTES:
        case = f"{says}: with -k, results that wait for their turn may fill it, and the run waits then"
        return CheckResult("TMPDIR", "bad" if left < MIN_SPACE_BYTES else "warn", case, elsewhere)
    if (kind := filesystem_type(path, mounts)) in MEMORY_FILESYSTEMS:
        case = f"{says}, but is in memory ({kind}): with -k, results that wait for their turn take it from the tasks"
        return CheckResult("TMPDIR", "warn", case, f"{elsewhere}, or give a smaller --spill-limit")
    return CheckResult("TMPDIR", "ok", says)


def check_current_folder(folder: str = ".", mounts: str = "/proc/self/mounts", free_bytes: int = -1) -> CheckResult:
    """Whether -o FILE, written in this folder, and its journal would be safe."""
    path = os.path.realpath(folder)
    left, wrong = _free_space(path, free_bytes)
    if wrong:
        return CheckResult(
            "this folder", "warn", f"{wrong}: -o FILE must be elsewhere", "give -o a path that can be written"
        )
    says = f"{path} has {format_bytes(left)} free"
    if left < MIN_SPACE_BYTES:
        return CheckResult("this folder", "warn", f"{says}: -o FILE here would soon wait for room", "make room")
    if (kind := filesystem_type(path, mounts)) in NETWORK_FILESYSTEMS:
        case = f"{says}, over a network ({kind}): a journal beside -o FILE here is as safe as its server says"
        return CheckResult("this folder", "warn", case, "give --journal FILE on a local disk")
    return CheckResult("this folder", "ok", says)


def _free_space(path: str, free_bytes: int) -> tuple[int, str]:
    """Bytes that are free there, and what is wrong; `free` is said by a test."""
    if not os.path.isdir(path):
        return 0, f"{path} is no folder"
    try:
        with tempfile.TemporaryFile(dir=path):
            return (shutil.disk_usage(path).free if free_bytes < 0 else free_bytes), ""
    except OSError as error:
        return 0, f"{path} can't be written: {error.strerror}"


def filesystem_type(path: str, mounts: str = "/proc/self/mounts") -> str:
    """The type of the file system that `path` is on; empty if unknown."""
    rows = [line.split() for line in read_small_file(mounts).splitlines()]
    real = os.path.realpath(path)
    above = [row for row in rows if len(row) > 2 and f"{real}/".startswith(f"{row[1].rstrip('/')}/")]  # noqa: PLR2004
    return max(above, key=lambda row: len(row[1]))[2] if above else ""


def check_leftovers(folder: str = "") -> CheckResult:
    """What dead runs have left among the sockets."""
    path = folder or str(endpoints.runtime_folder())
    dead = []
    with suppress(FileNotFoundError):
        live = set(endpoints.list_live_runs())
        dead = sorted(name for name in os.listdir(path) if name not in live and _is_dead(f"{path}/{name}"))
    if not dead:
        return CheckResult("leftovers", "ok", "no dead run has left anything")
    names = " ".join(f"{path}/{name}" for name in dead)
    says = f"{', '.join(dead)}: nobody is at work there, and their sockets are still in {path}"
    return CheckResult("leftovers", "warn", f"{says}; they do no harm", f"rm -r {names}")


def _is_dead(path: str) -> bool:
    """Whether a pipeline's folder holds something, and nobody holds its locks."""
    import fcntl

    names = os.listdir(path) if os.path.isdir(path) else []
    for name in names:
        if name.endswith(".lock"):
            with suppress(FileNotFoundError), open(f"{path}/{name}", "rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
    return bool(names)


def check_live_runs() -> CheckResult:
    """The pipelines that are at work now."""
    names = endpoints.list_live_runs()
    says = f"{', '.join(names)} (see `pipe top --name {names[0]}`)" if names else "none is at work"
    return CheckResult("live pipelines", "ok", says)


MIN_PYTHON = (3, 11)
MIN_LIBRARY_VERSIONS = {
    "pyzmq": "26",
    "typer": "0.29",
    "rich": "13",
    "msgspec": "0.18.6",
    "msgpack": "1.0.5",
    "psutil": "5.9",
}
"""The least version of each library, as pyproject.toml has it."""
MIN_LIBZMQ = (4, 3, 2)
MIN_CLOCK_SECONDS, MAX_CLOCK_SECONDS = 1_760_000_000, 4_102_444_800
"""In seconds: before this was written, no clock is right; the year 2100."""


def check_python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> CheckResult:
    """Whether the interpreter is new enough."""
    shown = ".".join(map(str, version))
    if version >= MIN_PYTHON:
        return CheckResult("pipe", "ok", f"{__version__} on Python {shown}")
    least = ".".join(map(str, MIN_PYTHON))
    return CheckResult("pipe", "bad", f"Python {shown} is too old", f"install pipe for Python {least} or newer")


def check_libraries(version: Callable[[str], str] = metadata.version) -> CheckResult:
    """Whether each library is there, and new enough."""
    wrong: list[str] = []
    right: list[str] = []
    for name, least in MIN_LIBRARY_VERSIONS.items():
        try:
            found = version(name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        (right if _version_numbers(found) >= _version_numbers(least) else wrong).append(f"{name} {found}")
    if not wrong:
        return CheckResult("libraries", "ok", ", ".join(right))
    names = " ".join(
        f"'{name}>={MIN_LIBRARY_VERSIONS[name]}'"
        for name in MIN_LIBRARY_VERSIONS
        if any(each.split()[0] == name for each in wrong)
    )
    return CheckResult("libraries", "bad", f"too old or missing: {', '.join(wrong)}", f"pip install {names}")


def check_libzmq(version: tuple[int, ...] = (), capabilities: Mapping[str, bool] | None = None) -> CheckResult:
    """Whether libzmq does as the design thinks, and has what tcp will need."""
    wheel = "pip install --force-reinstall --only-binary :all: pyzmq"
    try:
        import zmq
    except ImportError as error:
        return CheckResult("libzmq", "bad", f"can't be loaded: {error}", wheel)
    found = version or zmq.zmq_version_info()
    able = {name: zmq.has(name) for name in ("ipc", "curve", "draft")} if capabilities is None else capabilities
    shown = f"{'.'.join(map(str, found))}, " + ", ".join(f"{'' if yes else 'no '}{name}" for name, yes in able.items())
    if not able.get("ipc"):
        return CheckResult("libzmq", "bad", f"{shown}: stations can't meet on one machine", wheel)
    if found < MIN_LIBZMQ:
        least = ".".join(map(str, MIN_LIBZMQ))
        return CheckResult("libzmq", "warn", f"{shown}: older than {least}, connections may not be repaired", wheel)
    if not able.get("curve"):
        return CheckResult("libzmq", "warn", f"{shown}: tcp can never have keys", wheel)
    return CheckResult("libzmq", "ok", f"{shown} (no drafts are needed)")


def check_clock(now: float = 0.0) -> CheckResult:
    """Whether the clock can be right: journals, job logs and `pipe top` show its time."""
    seconds = now or time.time()
    shown = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    if MIN_CLOCK_SECONDS <= seconds < MAX_CLOCK_SECONDS:
        return CheckResult("clock", "ok", shown)
    says = f"{shown} can't be right: journals and job logs would say so, too, and files may look changed"
    return CheckResult("clock", "warn", says, "set the clock, as with `timedatectl set-ntp true`")


def check_terminal(environment: Mapping[str, str], *, is_terminal: bool) -> CheckResult:
    """Whether a bar can be drawn on stderr, if that is a terminal."""
    if not is_terminal:
        return CheckResult("terminal", "ok", "stderr is none: no bar is drawn unless with --bar")
    term = environment.get("TERM", "")
    if term in {"", "dumb"}:
        says = f"TERM is {term or 'not set'}: a bar would be drawn line under line"
        return CheckResult("terminal", "warn", says, "set TERM, as to xterm-256color, or give --no-bar")
    plain = ", without colours (NO_COLOR)" if environment.get("NO_COLOR") else ""
    return CheckResult("terminal", "ok", f"{term}{plain}")


def _version_numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]
