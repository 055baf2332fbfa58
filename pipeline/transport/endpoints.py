"""Endpoints of a pipeline, its private folder, and the locks that give each endpoint one owner.

- On one machine, stations connect by ipc sockets in a folder that only the user can enter; across machines, by tcp.
- A lock beside the sockets, which names its owner, refuses a second ventilator or sink.
- Sockets that a killed owner left are removed only under that lock, since bind() removes whatever is at its path.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import stat
import sys
import time
from contextlib import suppress
from typing import Protocol

from msgspec import Struct

from pipeline.model.errors import PipelineError, UsageError

MAX_PATH_BYTES = 107
"""Maximum length of an ipc path."""
MAX_SOCKET_NAME_BYTES = len("/run-4194304/lane.4194304.99999")
"""Length of the longest socket name of a run below the runtime folder."""
REGISTRY_PORT, RESULTS_PORT, CONTROL_PORT = 5557, 5558, 5559
"""The ports of the ZeroMQ guide."""
LOCK_WAIT_SECONDS = 2.0
"""How long to wait for an owner that may be about to exit."""
SOCKET_PREFIXES = {"sink": ("results", "control"), "ventilator": ("registry", "lane")}
"""First parts of the names of the sockets that the owner of each lock binds."""

RUN_PREFIX = "run-"
"""First part of the name of a folder of one `pipe run`; the launcher's pid follows."""

_TCP_PATTERN = re.compile(r"tcp://(\[[0-9a-fA-F:.%]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")


class EndpointOptions(Protocol):
    """The settings that select endpoints."""

    @property
    def name(self) -> str: ...
    @property
    def at(self) -> str: ...
    @property
    def registry_at(self) -> str: ...
    @property
    def results_at(self) -> str: ...
    @property
    def control_at(self) -> str: ...
    @property
    def insecure(self) -> bool: ...


class Endpoints(Struct, frozen=True):
    """The three endpoints of a pipeline, and the folder of its locks and lanes (empty if all endpoints are tcp)."""

    name: str
    registry: str
    results: str
    control: str
    folder: str

    @property
    def is_tcp(self) -> bool:
        """Whether the registry, and therefore the lanes, use tcp."""
        return self.registry.startswith("tcp:")


def runtime_folder() -> str:
    """Return the folder of all pipelines of this user on this machine, where the stations find each other.

    It is the first place that can be used. An inherited variable alone decides nothing, since su, sudo, cron and batch
    systems keep, drop or change it.
    """
    places = runtime_places()
    return next((place for place in places if not describe_obstacle(place)), places[0])


def runtime_places() -> list[str]:
    """Return the places for the runtime folder, the preferred one first."""
    uid = os.getuid()
    bases = [os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{uid}"]
    shared = ["/tmp", os.environ.get("TMPDIR", ""), "/var/tmp", "/dev/shm", os.environ.get("HOME", "")]  # noqa: S108
    places = [(base, "pipe") for base in bases] + [(base, f"pipe-{uid}") for base in shared]
    return [os.path.join(base, name) for base, name in places if os.path.isabs(base)]


def describe_obstacle(place: str) -> str:
    """Return why the runtime folder cannot be here; empty if it can.

    A folder of this user that is open to others is not passed over: only the user can repair it.
    """
    if (excess := len(os.fsencode(place)) + MAX_SOCKET_NAME_BYTES - MAX_PATH_BYTES) > 0:
        return f"it is {excess} bytes too long for ipc sockets"
    parent = os.path.dirname(place)
    try:
        is_own = os.lstat(place).st_uid == os.getuid()
        return _describe_folder_obstacle(place) if is_own else "it belongs to another user"
    except NotADirectoryError:
        return f"{parent} is not a directory"
    except OSError:
        pass  # it is still to be created
    return _describe_folder_obstacle(parent)


def _describe_folder_obstacle(folder: str) -> str:
    """Return why nothing can be created in this folder; empty if it can."""
    try:
        status = os.stat(folder)
    except OSError as error:
        return f"{folder}: {(error.strerror or '').lower()}"
    if not stat.S_ISDIR(status.st_mode):
        return f"{folder} is not a directory"
    if status.st_uid != os.getuid() and not status.st_mode & stat.S_ISVTX:
        return f"{folder} belongs to another user"
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"{folder} is not writable"


def describe_choice() -> str:
    """Return why the runtime folder is not in XDG_RUNTIME_DIR; empty if it is, or if that is not set."""
    if not os.environ.get("XDG_RUNTIME_DIR"):
        return ""
    first, chosen = runtime_places()[0], runtime_folder()
    return "" if chosen == first else f"{chosen} is used instead of {first}: {describe_obstacle(first)}"


def resolve_endpoints(settings: EndpointOptions) -> Endpoints:
    """Return the endpoints that these options select. Creates nothing; see `claim_folder`.

    Raises:
        UsageError: malformed endpoint or name, path too long, or tcp without --insecure.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", settings.name) or settings.name.startswith("."):
        raise UsageError(f"invalid --name {settings.name!r}", "use letters, digits, dots and dashes")
    folder = os.path.join(runtime_folder(), settings.name)
    endpoints = {"registry": settings.registry_at, "results": settings.results_at, "control": settings.control_at}
    ports = {"registry": REGISTRY_PORT, "results": RESULTS_PORT, "control": CONTROL_PORT}
    for name, option in endpoints.items():
        if option:
            endpoints[name] = _validate_endpoint(option)
        elif settings.at:
            endpoints[name] = _endpoint_on_host(settings.at, ports[name])
        elif name == "control" and (match := _TCP_PATTERN.fullmatch(settings.registry_at)) and match[2]:
            endpoints[name] = f"tcp://{match[1]}:{int(match[2]) + 2}"  # until a Registration names another
        else:
            endpoints[name] = _validate_endpoint(f"ipc://{folder}/{name}")
    if not settings.insecure and (tcp := [endpoint for endpoint in endpoints.values() if endpoint.startswith("tcp:")]):
        raise UsageError(
            f"refused {tcp[0]}: tcp is not encrypted, so any user of the network could run commands",
            "allow it with --insecure",
        )
    is_private = any(endpoint.startswith("ipc:") for endpoint in endpoints.values())
    return Endpoints(settings.name, **endpoints, folder=folder if is_private else "")


def _endpoint_on_host(host: str, port: int) -> str:
    match = _TCP_PATTERN.fullmatch(host)
    if not match or match[2]:
        raise UsageError(f"invalid --at {host}", "use tcp://HOST, without a port")
    return f"{host}:{port}"


def _validate_endpoint(endpoint: str) -> str:
    if endpoint.startswith("ipc://") and len(endpoint) > len("ipc://"):
        path = endpoint.removeprefix("ipc://")
        if (size := len(os.fsencode(path))) > MAX_PATH_BYTES:
            raise UsageError(
                f"socket path has {size} bytes, more than the {MAX_PATH_BYTES} that ipc allows: {path}",
                "use a shorter --name, or set XDG_RUNTIME_DIR to a shorter folder",
            )
        return endpoint
    match = _TCP_PATTERN.fullmatch(endpoint)
    if not match or not match[2] or not 0 < int(match[2]) < 1 << 16:
        raise UsageError(f"{endpoint!r} is not an endpoint", "use tcp://HOST:PORT or ipc://PATH")
    return endpoint


def claim_folder(folder: str) -> None:
    """Create the private folder, or check that it is private.

    Raises:
        UsageError: the folder belongs to another user, or others may enter it.
    """
    for path in (os.path.dirname(folder), folder):
        try:
            _make_folder(path)
            status = os.lstat(path)
        except OSError as error:
            raise UsageError(
                f"cannot create directory {path}: {error.strerror}", "set XDG_RUNTIME_DIR to a directory of yours"
            ) from None
        is_private = status.st_uid == os.getuid() and stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
        if not is_private:
            raise UsageError(f"{path} is not a private directory of yours", "set XDG_RUNTIME_DIR to one with mode 0700")


def _make_folder(path: str) -> None:
    """Create a folder unless it exists: the reason of a failure may be another one then."""
    try:
        os.mkdir(path, 0o700)
    except OSError:
        if not os.path.isdir(path):
            raise


class EndpointLock:
    """The right to bind the endpoints of one role, held until `release` or the end of the process."""

    def __init__(self, folder: str, role: str, wait_seconds: float = LOCK_WAIT_SECONDS) -> None:
        """Acquire the lock.

        Raises:
            PipelineError: the owner, whom the error names, has not exited within `wait_seconds`.
        """
        self._folder, self._path = folder, os.path.join(folder, f"{role}.lock")
        self._file = self._open()
        deadline = time.monotonic() + wait_seconds
        while not self._try_lock():
            if time.monotonic() > deadline:
                owner = os.pread(self._file, 4096, 0).decode(errors="replace").strip()
                os.close(self._file)
                raise PipelineError(f"another {role} is running as {os.path.basename(folder)!r}: {owner}")
            time.sleep(0.02)
        text = f"pid {os.getpid()}, {shlex.join(sys.argv)[:1000]}\n".encode(errors="replace")
        # ext4 writes a file that was cut to nothing to disk when it is closed, so its removal would wait for the disk
        os.ftruncate(self._file, os.pwrite(self._file, text, 0))

    def _open(self) -> int:
        while True:
            claim_folder(self._folder)
            with suppress(FileNotFoundError):  # the previous owner has just removed the folder
                return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        # the previous owner removes its file when it exits: the locked file must still be the one at the path
        try:
            is_current = os.path.samestat(os.fstat(self._file), os.stat(self._path))
        except FileNotFoundError:
            is_current = False
        if not is_current:
            os.close(self._file)
            self._file = self._open()
        return is_current

    def release(self) -> None:
        """Release the lock and remove its file, and the folder if it is empty."""
        if self._file >= 0:
            with suppress(FileNotFoundError):
                os.unlink(self._path)
            os.close(self._file)
            self._file = -1
            remove_empty_folder(self._folder)


def remove_empty_folder(folder: str) -> None:
    """Remove the pipeline's folder unless it is in use."""
    try:
        os.rmdir(folder)
    except OSError:
        return


def remove_stale_sockets(folder: str, prefix: str) -> None:
    """Remove the sockets that a killed owner left. The caller holds the lock."""
    for path in _find_entries(folder, prefix):
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                os.unlink(path)


def remove_run_leftovers(folder: str) -> None:
    """Remove what killed processes left in a pipeline's folder, and the folder, unless it is in use.

    The same for the private folders of other runs that are dead.
    """
    if not folder:
        return
    for path in (folder, *_find_dead_runs(os.path.dirname(folder))):
        if os.path.isdir(path):
            _remove_folder_leftovers(path)


def _find_dead_runs(base: str) -> list[str]:
    """Return the private folders of runs whose launcher's pid does not exist any more."""
    pids = {path: os.path.basename(path).removeprefix(RUN_PREFIX) for path in _find_entries(base, RUN_PREFIX)}
    return [path for path, pid in pids.items() if pid.isdigit() and not os.path.exists(f"/proc/{pid}")]


def _find_entries(folder: str, prefix: str = "") -> list[str]:
    """Return the paths of what is in a folder and begins with this prefix; nothing if the folder cannot be read."""
    try:
        return [os.path.join(folder, name) for name in os.listdir(folder) if name.startswith(prefix)]
    except OSError:
        return []


def _remove_folder_leftovers(folder: str) -> None:
    """Remove only what can be locked: the sink of a dead launcher may still be running."""
    locks = []
    with suppress(PipelineError):
        for role, prefixes in SOCKET_PREFIXES.items():
            locks.append(EndpointLock(folder, role, wait_seconds=0))
            for prefix in prefixes:
                remove_stale_sockets(folder, prefix)
    for lock in locks:
        lock.release()


def list_live_runs() -> list[str]:
    """Return the names of this user's pipelines that have a live sink."""
    return [os.path.basename(path) for path in sorted(_find_entries(runtime_folder())) if _is_locked(path)]


def _is_locked(folder: str) -> bool:
    """Return whether a sink holds the lock in this folder."""
    with suppress(FileNotFoundError, NotADirectoryError), open(os.path.join(folder, "sink.lock"), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
