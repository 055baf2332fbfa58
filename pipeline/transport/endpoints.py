"""Where the stations meet: endpoints, the private folder, and the locks that keep a place for one owner.

On one machine they meet at ipc sockets in a folder that is the user's alone; on several at tcp ports. A second live
ventilator or sink is refused by a lock beside the socket, naming its owner; what a killed run left behind is swept
only under that lock, since bind() removes whatever is at its path.
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
from pathlib import Path

from msgspec import Struct

from pipeline.config.settings import Settings
from pipeline.model.errors import PipelineError, UsageError

MAX_PATH_BYTES = 107
"""Bytes of an ipc path at most."""
REGISTRY_PORT, RESULTS_PORT, CONTROL_PORT = 5557, 5558, 5559
"""The ports of the ZeroMQ guide."""
LOCK_WAIT_SECONDS = 2.0
"""Seconds to wait for an owner that may be about to leave."""
SOCKET_PREFIXES = {"sink": ("results", "control"), "ventilator": ("registry", "lane")}
"""What the names of the sockets begin with that each owner of a lock binds."""

RUN_PREFIX = "run-"
"""What the name of a run's own place begins with; the launcher's pid follows."""

_TCP_PATTERN = re.compile(r"tcp://(\[[0-9a-fA-F:.%]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")


class Endpoints(Struct, frozen=True):
    """The three endpoints of a line, and the folder of its locks and lanes (empty if all is tcp)."""

    name: str
    registry: str
    results: str
    control: str
    folder: str

    @property
    def is_tcp(self) -> bool:
        """Whether the desk, and so the lanes, are on tcp."""
        return self.registry.startswith("tcp:")


def runtime_folder() -> Path:
    """The folder of all this user's pipelines on this machine."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base, "pipe") if base else Path(os.environ.get("TMPDIR", "/tmp"), f"pipe-{os.getuid()}")  # noqa: S108


def resolve_endpoints(settings: Settings) -> Endpoints:
    """Where a line with these settings meets. Makes nothing; see `claim_folder`.

    Raises:
        UsageError: a malformed endpoint or name, a path too long, tcp without --insecure.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", settings.name) or settings.name.startswith("."):
        raise UsageError(f"--name {settings.name!r}: use letters, digits, dots and dashes")
    folder = runtime_folder() / settings.name
    ends = {"registry": settings.registry_at, "results": settings.results_at, "control": settings.control_at}
    ports = {"registry": REGISTRY_PORT, "results": RESULTS_PORT, "control": CONTROL_PORT}
    for which, given in ends.items():
        if given:
            ends[which] = _validate_endpoint(given)
        elif settings.at:
            ends[which] = _endpoint_on_host(settings.at, ports[which])
        elif (
            settings.registry_at
            and which == "control"
            and (match := _TCP_PATTERN.fullmatch(settings.registry_at))
            and match[2]
        ):
            ends[which] = f"tcp://{match[1]}:{int(match[2]) + 2}"  # until a Welcome says otherwise
        else:
            ends[which] = _validate_endpoint(f"ipc://{folder / which}")
    if not settings.insecure and (tcp := [end for end in ends.values() if end.startswith("tcp:")]):
        raise UsageError(
            f"{tcp[0]}: tcp has no keys yet, so any user of the network could run commands; allow it with --insecure"
        )
    private = any(end.startswith("ipc:") for end in ends.values())
    return Endpoints(settings.name, **ends, folder=str(folder) if private else "")


def _endpoint_on_host(host: str, port: int) -> str:
    match = _TCP_PATTERN.fullmatch(host)
    if not match or match[2]:
        raise UsageError(f"--at {host}: give it as tcp://HOST, without a port")
    return f"{host}:{port}"


def _validate_endpoint(endpoint: str) -> str:
    if endpoint.startswith("ipc://") and len(endpoint) > len("ipc://"):
        path = endpoint.removeprefix("ipc://")
        if len(os.fsencode(path)) > MAX_PATH_BYTES:
            raise UsageError(
                f"the socket's path is {len(os.fsencode(path))} bytes long, ipc allows {MAX_PATH_BYTES}: {path}; "
                "use a shorter --name, or set XDG_RUNTIME_DIR to a shorter folder"
            )
        return endpoint
    match = _TCP_PATTERN.fullmatch(endpoint)
    if not match or not match[2] or not 0 < int(match[2]) < 1 << 16:
        raise UsageError(f"{endpoint!r} is not an endpoint; use tcp://HOST:PORT or ipc://PATH")
    return endpoint


def claim_folder(folder: str) -> None:
    """Make the private folder, or make sure that it is ours alone.

    Raises:
        UsageError: it belongs to somebody else, or others may enter it.
    """
    for path in (Path(folder).parent, Path(folder)):
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            status = path.lstat()
        except OSError as error:
            raise UsageError(
                f"cannot make the folder {path}: {error.strerror}; set XDG_RUNTIME_DIR to one of yours"
            ) from None
        ours = status.st_uid == os.getuid() and stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
        if not ours:
            raise UsageError(f"{path} is not a private folder of yours (0700); set XDG_RUNTIME_DIR to one that is")


class EndpointLock:
    """A place for one owner. Held as long as the object's process lives, so a kill -9 lets go of it."""

    def __init__(self, folder: str, role: str, wait_seconds: float = LOCK_WAIT_SECONDS) -> None:
        """Waits so many seconds for an owner to leave. Raises PipelineError, naming the owner, if it does not."""
        self._path = Path(folder, f"{role}.lock")
        self._file = self._open()
        deadline = time.monotonic() + wait_seconds
        while not self._try_lock():
            if time.monotonic() > deadline:
                owner = os.pread(self._file, 4096, 0).decode(errors="replace").strip()
                os.close(self._file)
                raise PipelineError(f"a {role} is already at work at {Path(folder).name!r}: {owner}")
            time.sleep(0.02)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"pid {os.getpid()}, {shlex.join(sys.argv)[:1000]}\n".encode(errors="replace"), 0)

    def _open(self) -> int:
        while True:
            claim_folder(str(self._path.parent))
            with suppress(FileNotFoundError):  # the last owner has just removed the folder, too
                return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        # the last owner removes its file when it goes: what is locked must still be what is at the path
        try:
            same = os.path.samestat(os.fstat(self._file), self._path.stat())
        except FileNotFoundError:
            same = False
        if not same:
            os.close(self._file)
            self._file = self._open()
        return same

    def release(self) -> None:
        """Let go, and leave nothing behind."""
        if self._file >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = -1
            remove_empty_folder(str(self._path.parent))


def remove_empty_folder(folder: str) -> None:
    """Remove the pipeline's folder if nobody uses it any more."""
    try:
        Path(folder).rmdir()
    except OSError:
        return


def remove_stale_sockets(folder: str, prefix: str) -> None:
    """Remove the sockets that a killed owner of the lock left. Only the lock's holder may do this."""
    for path in Path(folder).glob(f"{prefix}*"):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink(missing_ok=True)


def remove_run_leftovers(folder: str) -> None:
    """Remove what killed owners left in a pipeline's folder, and the folder, unless somebody else is at work there.

    The same for the private folders of other runs that are dead.
    """
    if not folder:
        return
    for path in (Path(folder), *_find_dead_runs(Path(folder).parent)):
        if path.is_dir():
            _remove_folder_leftovers(str(path))


def _find_dead_runs(base: Path) -> list[Path]:
    """The private folders of runs whose launcher is gone, and nobody has its number now."""
    numbers = {path: path.name.removeprefix(RUN_PREFIX) for path in base.glob(f"{RUN_PREFIX}*")}
    return [path for path, number in numbers.items() if number.isdigit() and not os.path.exists(f"/proc/{number}")]


def _remove_folder_leftovers(folder: str) -> None:
    """Only what can be locked is nobody's: whose launcher is gone may still have a sink."""
    locks = []
    with suppress(PipelineError):
        for role, prefixes in SOCKET_PREFIXES.items():
            locks.append(EndpointLock(folder, role, wait_seconds=0))
            for prefix in prefixes:
                remove_stale_sockets(folder, prefix)
    for lock in locks:
        lock.release()


def list_live_runs() -> list[str]:
    """The pipelines of this user that have a live sink or ventilator."""
    names = []
    for lock in sorted(runtime_folder().glob("*/sink.lock")):
        with lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                names.append(lock.parent.name)
    return names
