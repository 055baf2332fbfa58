"""Checks of versions, directories, leftovers, the clock and the terminal.

A check removes at once what it creates. Nothing else is changed: leftovers are named, and not removed.
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

MIN_PYTHON = (3, 11)
MIN_LIBRARY_VERSIONS = {
    "pyzmq": "26",
    "typer": "0.29",
    "rich": "13",
    "msgspec": "0.18.6",
    "msgpack": "1.0.5",
    "psutil": "5.9",
}
"""As in pyproject.toml."""
MIN_LIBZMQ = (4, 3, 2)
LOW_SPACE_BYTES, MIN_SPACE_BYTES = GIB, 64 * MIB
MEMORY_FILESYSTEMS = {"tmpfs", "ramfs"}
NETWORK_FILESYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "afs", "ceph", "lustre", "glusterfs"}
MIN_CLOCK_SECONDS, MAX_CLOCK_SECONDS = 1_760_000_000, 4_102_444_800
"""When this was written, and the year 2100: a clock outside is wrong."""
WRITABLE_TMPDIR = "set TMPDIR to a writable directory"
LARGER_TMPDIR = "set TMPDIR to a directory on a disk with more space"
OTHER_RUNTIME_DIRECTORY = "set XDG_RUNTIME_DIR to a private directory (mode 0700) with a short path"
INSTALL_PYZMQ = "pip install --force-reinstall --only-binary :all: pyzmq"


def check_python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> CheckResult:
    """Check the version of Python."""
    if version >= MIN_PYTHON:
        return CheckResult("pipe", "ok", f"{__version__} on Python {_join(version)}")
    fix = f"install pipe for Python {_join(MIN_PYTHON)} or newer"
    return CheckResult("pipe", "bad", f"Python {_join(version)} is too old", fix)


def check_libraries(version: Callable[[str], str] = metadata.version) -> CheckResult:
    """Check that each library is installed and new enough."""
    good: list[str] = []
    bad: dict[str, str] = {}
    for name, minimum in MIN_LIBRARY_VERSIONS.items():
        try:
            installed = version(name)
        except metadata.PackageNotFoundError:
            bad[name] = f"{name} is missing"
            continue
        if _version_numbers(installed) >= _version_numbers(minimum):
            good.append(f"{name} {installed}")
        else:
            bad[name] = f"{name} {installed}"
    if not bad:
        return CheckResult("libraries", "ok", ", ".join(good))
    requirements = " ".join(f"'{name}>={MIN_LIBRARY_VERSIONS[name]}'" for name in bad)
    return CheckResult(
        "libraries", "bad", f"too old or missing: {', '.join(bad.values())}", f"pip install {requirements}"
    )


def check_libzmq(version: tuple[int, ...] = (), capabilities: Mapping[str, bool] | None = None) -> CheckResult:
    """Check the version and capabilities of libzmq."""
    try:
        import zmq
    except ImportError as error:
        return CheckResult("libzmq", "bad", f"cannot be loaded: {error}", INSTALL_PYZMQ)
    version = version or zmq.zmq_version_info()
    has = {name: zmq.has(name) for name in ("ipc", "curve", "draft")} if capabilities is None else capabilities
    detail = f"{_join(version)}, " + ", ".join(f"{'' if is_there else 'no '}{name}" for name, is_there in has.items())
    if not has.get("ipc"):
        return CheckResult("libzmq", "bad", f"{detail}: stations cannot connect on one machine", INSTALL_PYZMQ)
    if version < MIN_LIBZMQ:
        detail = f"{detail}: older than {_join(MIN_LIBZMQ)}, connections may not be repaired"
        return CheckResult("libzmq", "warn", detail, INSTALL_PYZMQ)
    if not has.get("curve"):
        return CheckResult("libzmq", "warn", f"{detail}: tcp cannot be encrypted", INSTALL_PYZMQ)
    return CheckResult("libzmq", "ok", f"{detail} (drafts are not needed)")


def _join(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _version_numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


def check_runtime_folder(folder: str = "") -> CheckResult:
    """Check that the directory of sockets is private, and its path short enough for ipc."""
    path, name, fix = folder or endpoints.runtime_folder(), "runtime directory", OTHER_RUNTIME_DIRECTORY
    spare = endpoints.MAX_PATH_BYTES - len(os.fsencode(path)) - endpoints.MAX_SOCKET_NAME_BYTES
    if spare < 0:
        return CheckResult(name, "bad", f"{path} is {-spare} bytes too long for ipc sockets", fix)
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        if obstacle := endpoints.describe_obstacle(path):
            return CheckResult(name, "bad", f"{path} cannot be created: {obstacle}", fix)
        return _chosen_folder(name, f"{path} will be created", folder)
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode):
        return CheckResult(name, "bad", f"{path} is not a directory of this user", fix)
    if status.st_mode & 0o077:
        mode = f"{stat.S_IMODE(status.st_mode):04o}"
        return CheckResult(name, "bad", f"{path} is accessible to other users (mode {mode})", f"chmod 700 {path}")
    return _chosen_folder(name, f"{path} is private, and {spare} bytes shorter than the limit", folder)


def _chosen_folder(name: str, detail: str, folder: str) -> CheckResult:
    """Warn if XDG_RUNTIME_DIR names a place that cannot be used: another process may have a value that can."""
    if not folder and (choice := endpoints.describe_choice()):
        return CheckResult(name, "warn", f"{detail}; {choice}", "unset XDG_RUNTIME_DIR, or set it for all stations")
    return CheckResult(name, "ok", detail)


def check_sockets(folder: str = "") -> CheckResult:
    """Check that a socket can be bound and connected there: some file systems have none."""
    path = folder or endpoints.runtime_folder()
    base = path if os.path.isdir(path) else os.path.dirname(path)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="try", dir=base) as parent,
            closing(socket.socket(socket.AF_UNIX)) as server,
            closing(socket.socket(socket.AF_UNIX)) as client,
        ):
            server.bind(f"{parent}/s")
            server.listen()
            client.connect(f"{parent}/s")
    except OSError as error:
        detail = f"cannot be created in {base}: {error.strerror or error}"
        fix = "set XDG_RUNTIME_DIR to a directory with a short path on a local file system"
        return CheckResult("sockets", "bad", detail, fix)
    return CheckResult("sockets", "ok", f"can be created and connected in {base}")


def check_temporary_folder(folder: str = "", mounts: str = "/proc/self/mounts", free_bytes: int = -1) -> CheckResult:
    """Check the directory of results that wait for earlier ones, and do not fit in memory."""
    path, name = folder or os.environ.get("TMPDIR") or tempfile.gettempdir(), "TMPDIR"
    free, error = _free_space(path, free_bytes)
    if error:
        return CheckResult(name, "bad", error, WRITABLE_TMPDIR)
    detail = f"{path} has {format_bytes(free)} free"
    if free < LOW_SPACE_BYTES:
        detail = f"{detail}: with -k, results out of order may fill it, and the run pauses until there is space"
        return CheckResult(name, "bad" if free < MIN_SPACE_BYTES else "warn", detail, LARGER_TMPDIR)
    if (kind := filesystem_type(path, mounts)) in MEMORY_FILESYSTEMS:
        detail = f"{detail}, but is in memory ({kind}): with -k, results out of order take memory from the tasks"
        return CheckResult(name, "warn", detail, f"{LARGER_TMPDIR}, or use a smaller --spill-limit")
    return CheckResult(name, "ok", detail)


def check_current_folder(folder: str = ".", mounts: str = "/proc/self/mounts", free_bytes: int = -1) -> CheckResult:
    """Check whether -o FILE in this directory, and its journal, would be safe."""
    path, name = os.path.realpath(folder), "current directory"
    free, error = _free_space(path, free_bytes)
    if error:
        return CheckResult(name, "warn", f"{error}: -o FILE must be elsewhere", "use -o with a writable path")
    detail = f"{path} has {format_bytes(free)} free"
    if free < MIN_SPACE_BYTES:
        return CheckResult(name, "warn", f"{detail}: a run with -o FILE would soon pause", "free disk space")
    if (kind := filesystem_type(path, mounts)) in NETWORK_FILESYSTEMS:
        detail = (
            f"{detail}, on a network file system ({kind}): the server decides how safe a journal next to -o FILE is"
        )
        return CheckResult(name, "warn", detail, "use --journal FILE on a local disk")
    return CheckResult(name, "ok", detail)


def _free_space(path: str, free_bytes: int) -> tuple[int, str]:
    """Return the free bytes (a test gives them), and why the directory cannot be used."""
    if not os.path.isdir(path):
        return 0, f"{path} is not a directory"
    try:
        with tempfile.TemporaryFile(dir=path):
            return (shutil.disk_usage(path).free if free_bytes < 0 else free_bytes), ""
    except OSError as error:
        return 0, f"{path} is not writable: {error.strerror}"


def filesystem_type(path: str, mounts: str = "/proc/self/mounts") -> str:
    """Return the type of the file system that `path` is on; empty if unknown."""
    rows = [line.split() for line in read_small_file(mounts).splitlines()]
    real = os.path.realpath(path)
    above = [row for row in rows if len(row) > 2 and f"{real}/".startswith(f"{row[1].rstrip('/')}/")]  # noqa: PLR2004
    return max(above, key=lambda row: len(row[1]))[2] if above else ""


def check_clock(now: float = 0.0) -> CheckResult:
    """Check whether the clock can be right: journals, job logs and `pipe top` show its time."""
    seconds = now or time.time()
    shown = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    if MIN_CLOCK_SECONDS <= seconds < MAX_CLOCK_SECONDS:
        return CheckResult("clock", "ok", shown)
    detail = f"{shown} is wrong: journals and job logs would contain it, and files may seem modified"
    return CheckResult("clock", "warn", detail, "set the clock, for example with `timedatectl set-ntp true`")


def check_terminal(environment: Mapping[str, str], *, is_terminal: bool) -> CheckResult:
    """Check whether a progress bar can be drawn on stderr."""
    if not is_terminal:
        return CheckResult("terminal", "ok", "stderr is not a terminal: no progress bar without --bar")
    term = environment.get("TERM", "")
    if term in {"", "dumb"}:
        detail = f"TERM is {term or 'not set'}: each update of the progress bar would be a new line"
        return CheckResult("terminal", "warn", detail, "set TERM, for example to xterm-256color, or use --no-bar")
    return CheckResult("terminal", "ok", f"{term}, without colors (NO_COLOR)" if environment.get("NO_COLOR") else term)


def check_leftovers(folder: str = "") -> CheckResult:
    """Check for sockets of dead runs."""
    path = folder or endpoints.runtime_folder()
    dead = []
    with suppress(FileNotFoundError):
        live = set(endpoints.list_live_runs())
        dead = sorted(name for name in os.listdir(path) if name not in live and _is_dead(f"{path}/{name}"))
    if not dead:
        return CheckResult("leftovers", "ok", "none")
    detail = f"sockets of dead runs in {path}: {', '.join(dead)}; they do no harm"
    return CheckResult("leftovers", "warn", detail, f"rm -r {' '.join(f'{path}/{name}' for name in dead)}")


def _is_dead(path: str) -> bool:
    """Return whether a run's directory contains something, and none of its locks is held."""
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
    """List the pipelines that are running now."""
    names = endpoints.list_live_runs()
    detail = f"{', '.join(names)} (see `pipe top --name {names[0]}`)" if names else "none"
    return CheckResult("live pipelines", "ok", detail)
