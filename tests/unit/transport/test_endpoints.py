"""Endpoints, the private folder, and the locks."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config.settings import Settings
from pipeline.model.errors import PipelineError, UsageError
from pipeline.transport import endpoints
from pipeline.transport.endpoints import (
    EndpointLock,
    Endpoints,
    claim_folder,
    describe_choice,
    describe_obstacle,
    list_live_runs,
    remove_empty_folder,
    remove_run_leftovers,
    remove_stale_sockets,
    resolve_endpoints,
    runtime_folder,
    runtime_places,
)
from tests.support.disk_writes import assert_not_written_to_disk
from tests.support.processes import ROOT

WITHIN = 30.0
HOLD = """
import sys
from pipeline.transport.endpoints import EndpointLock
EndpointLock(*sys.argv[1:])
print('held', flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make a runtime folder of this test alone; the paths of pytest may be too long for ipc."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)


@pytest.fixture
def folder(runtime: Path) -> str:
    return str(runtime / "pipe" / "here")


def held_elsewhere(folder: str, role: str) -> subprocess.Popen[str]:
    """Return another process that holds the lock."""
    words = [sys.executable, "-c", HOLD, folder, role]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout
    assert select.select([process.stdout], [], [], WITHIN)[0]
    assert process.stdout.readline() == "held\n"
    return process


def ended() -> int:
    """Return the pid of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait(WITHIN)
    return process.pid


# --- endpoints


def test_default_endpoints_are_ipc_in_named_folder(runtime: Path) -> None:
    at = f"ipc://{runtime}/pipe/hashes"
    resolved = resolve_endpoints(Settings(name="hashes"))
    assert resolved == Endpoints("hashes", f"{at}/registry", f"{at}/results", f"{at}/control", f"{runtime}/pipe/hashes")
    assert not resolved.is_tcp
    assert not (runtime / "pipe").exists()


def make_unusable(base: Path, how: str) -> Path:
    """Return a path that an inherited variable may have, below this folder."""
    path = base / how
    if how == "file":
        path.touch()
    elif how == "foreign":
        path.mkdir()
        os.chown(path, os.getuid() + 1, -1)
    elif how == "file pipe":
        path.mkdir()
        (path / "pipe").touch()
    elif how == "foreign pipe":
        (path / "pipe").mkdir(parents=True)
        os.chown(path / "pipe", os.getuid() + 1, -1)
    return {"relative": Path("relative"), "read-only": Path("/proc/self"), "long": Path("/", "x" * 90)}.get(how, path)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("stale", "no such file or directory"),
        ("file", "is not a directory"),
        ("file pipe", "/pipe is not a directory"),
        ("foreign", "belongs to another user"),
        ("foreign pipe", "it belongs to another user"),
        ("read-only", "is not writable"),
        ("long", "bytes too long for ipc sockets"),
    ],
)
def test_unusable_inherited_variable_is_passed_over(monkeypatch: pytest.MonkeyPatch, how: str, reason: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as made:  # the paths of pytest may be too long
        try:
            bad = make_unusable(Path(made), how)
        except PermissionError:
            pytest.skip("only root can give a directory away")
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        monkeypatch.setenv("TMPDIR", str(bad))
        without = runtime_folder()
        assert describe_obstacle(without) == describe_choice() == ""
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(bad))
        assert runtime_folder() == without  # so stations with and without the variable meet
        assert describe_choice().startswith(f"{without} is used instead of {bad}/pipe: ")
        assert describe_choice().endswith(reason) or how == "long"
        assert resolve_endpoints(Settings()).folder == f"{without}/default"


def test_runtime_places_are_in_a_fixed_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/here")
    monkeypatch.setenv("TMPDIR", "/there")
    uid = os.getuid()
    monkeypatch.setenv("HOME", "/home/me")
    shared = ["/tmp", "/there", "/var/tmp", "/dev/shm", "/home/me"]
    places = ["/here/pipe", f"/run/user/{uid}/pipe", *(f"{base}/pipe-{uid}" for base in shared)]
    assert runtime_places() == places
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    monkeypatch.setenv("TMPDIR", "")
    assert runtime_places() == [places[1], places[2], *places[4:]]


def test_own_runtime_folder_that_is_not_private_is_not_passed_over(runtime: Path) -> None:
    (runtime / "pipe").mkdir(mode=0o755)
    assert describe_obstacle(str(runtime / "pipe")) == ""  # the user can repair it, so the error names it


def test_at_host_uses_default_ports() -> None:
    resolved = resolve_endpoints(Settings(at="tcp://10.0.0.5", insecure=True))
    assert (resolved.registry, resolved.results, resolved.control) == (
        "tcp://10.0.0.5:5557", "tcp://10.0.0.5:5558", "tcp://10.0.0.5:5559",
    )  # fmt: skip
    assert (resolved.is_tcp, resolved.folder) == (True, "")
    assert resolve_endpoints(Settings(at="tcp://[::1]", insecure=True)).registry == "tcp://[::1]:5557"


@pytest.mark.parametrize("end", ["registry", "results", "control"])
def test_one_ipc_endpoint_needs_folder(runtime: Path, end: str) -> None:
    settings = Settings(**{"at": "tcp://10.0.0.5", f"{end}_at": "ipc:///here", "insecure": True})  # type: ignore[arg-type]
    assert resolve_endpoints(settings).folder == f"{runtime}/pipe/default"


def test_control_follows_tcp_registry() -> None:
    resolved = resolve_endpoints(Settings(registry_at="tcp://host:7000", insecure=True))
    assert (resolved.registry, resolved.control) == ("tcp://host:7000", "tcp://host:7002")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (Settings(name="../x"), "invalid --name '../x'"),
        (Settings(name=".hidden"), "invalid --name '.hidden'"),
        (Settings(name=""), "invalid --name ''"),
        (Settings(at="tcp://host:1", insecure=True), "invalid --at tcp://host:1"),
        (Settings(at="host", insecure=True), "invalid --at host"),
        (Settings(registry_at="tcp://host", insecure=True), "'tcp://host' is not an endpoint"),
        (Settings(registry_at="tcp://host:65536", insecure=True), "'tcp://host:65536' is not an endpoint"),
        (Settings(results_at="tcp://host:0", insecure=True), "'tcp://host:0' is not an endpoint"),
        (Settings(control_at="ipc://"), "'ipc://' is not an endpoint"),
        (Settings(control_at="udp://host:1"), "'udp://host:1' is not an endpoint"),
        (Settings(at="tcp://127.0.0.1"), "refused tcp://127.0.0.1:5557: tcp is not encrypted"),
    ],
)
def test_invalid_endpoint_is_named(settings: Settings, named: str) -> None:
    with pytest.raises(UsageError) as raised:
        resolve_endpoints(settings)
    assert str(raised.value).startswith(named)


def test_ipc_path_too_long_raises_with_hint() -> None:
    longest = "ipc:///" + "x" * (endpoints.MAX_PATH_BYTES - 1)
    assert resolve_endpoints(Settings(registry_at=longest)).registry == longest
    with pytest.raises(UsageError, match="more than the 107 that ipc allows"):
        resolve_endpoints(Settings(registry_at=longest + "x"))


# --- the private folder


def test_claim_folder_creates_private_folder(folder: str) -> None:
    claim_folder(folder)
    claim_folder(folder)
    assert [path.stat().st_mode & 0o777 for path in (Path(folder), Path(folder).parent)] == [0o700, 0o700]
    remove_empty_folder(folder)
    assert not Path(folder).exists()
    remove_empty_folder(folder)


def test_claim_folder_open_to_others_raises(folder: str) -> None:
    Path(folder).mkdir(parents=True)
    Path(folder).parent.chmod(0o755)
    with pytest.raises(UsageError, match="not a private directory of yours"):
        claim_folder(folder)


def test_claim_folder_file_or_link_raises(runtime: Path, folder: str) -> None:
    (runtime / "pipe").mkdir(mode=0o700)
    Path(folder).write_text("")
    with pytest.raises(UsageError):
        claim_folder(folder)
    Path(folder).unlink()
    (runtime / "elsewhere").mkdir(mode=0o700)
    Path(folder).symlink_to(runtime / "elsewhere")
    with pytest.raises(UsageError):
        claim_folder(folder)


def test_claim_folder_cannot_create_raises(runtime: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot create directory .*missing/pipe"):
        claim_folder(str(runtime / "missing" / "pipe" / "here"))


def test_remove_empty_folder_keeps_used_folder(folder: str) -> None:
    claim_folder(folder)
    Path(folder, "lane.1").write_text("")
    remove_empty_folder(folder)
    assert Path(folder).exists()


# --- the lock


def test_second_owner_is_rejected_with_name_of_first(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "LOCK_WAIT_SECONDS", 0.05)
    with held_elsewhere(folder, "sink") as owner:
        with pytest.raises(PipelineError, match=f"another sink is running as 'here': pid {owner.pid}, "):
            EndpointLock(folder, "sink")
        other = EndpointLock(folder, "ventilator")
        owner.kill()
        owner.wait(WITHIN)
        mine = EndpointLock(folder, "sink")  # a kill -9 releases the lock
    assert Path(folder, "sink.lock").read_text().startswith(f"pid {os.getpid()}, ")
    mine.release()
    other.release()
    assert not Path(folder).exists()


def test_lock_left_with_longer_text_names_only_its_new_owner(folder: str) -> None:
    claim_folder(folder)
    Path(folder, "sink.lock").write_text("x" * 5000)
    lock = EndpointLock(folder, "sink")
    text = Path(folder, "sink.lock").read_text()
    assert text.startswith(f"pid {os.getpid()}, ")
    assert not text.endswith("x")
    lock.release()


def test_released_lock_is_not_written_to_disk(folder: str) -> None:
    assert_not_written_to_disk(lambda: EndpointLock(folder, "sink").release())


def test_lock_waits_for_exiting_owner(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "LOCK_WAIT_SECONDS", WITHIN)
    with held_elsewhere(folder, "sink") as owner:
        owner.send_signal(signal.SIGSTOP)
        leaving = subprocess.Popen(["sh", "-c", f"sleep 0.1; kill -9 {owner.pid}"])
        EndpointLock(folder, "sink").release()
        assert leaving.wait(WITHIN) == 0


def test_lock_with_removed_file_is_acquired_again(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "LOCK_WAIT_SECONDS", 0.05)
    first = EndpointLock(folder, "sink")
    Path(folder, "sink.lock").unlink()
    second = EndpointLock(folder, "sink")
    with pytest.raises(PipelineError):
        EndpointLock(folder, "sink")
    second.release()
    second.release()
    first.release()


def test_remove_stale_sockets_keeps_other_files(folder: str) -> None:
    claim_folder(folder)
    for name in ("lane.1.1", "lane.1.2", "registry"):
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"{folder}/{name}")
    Path(folder, "lane.txt").write_text("mine")
    remove_stale_sockets(folder, "lane")
    assert sorted(path.name for path in Path(folder).iterdir()) == ["lane.txt", "registry"]


def test_list_live_runs_needs_running_sink(runtime: Path) -> None:
    assert list_live_runs() == []
    locks = [EndpointLock(str(runtime / "pipe" / name), "sink") for name in ("beta", "alpha")]
    locks.append(EndpointLock(str(runtime / "pipe" / "gamma"), "ventilator"))
    with held_elsewhere(str(runtime / "pipe" / "dead"), "sink") as owner:
        assert list_live_runs() == ["alpha", "beta", "dead"]
        owner.kill()
    assert list_live_runs() == ["alpha", "beta"]
    for lock in locks:
        lock.release()
    assert list_live_runs() == []


def left_behind(folder: str) -> None:
    """Create what a killed sink and a killed ventilator leave."""
    claim_folder(folder)
    for name in ("results", "control", "registry", "lane.1.1"):
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"{folder}/{name}")
    Path(folder, "sink.lock").write_text("pid 1")


def test_leftovers_of_killed_owners_are_removed(folder: str) -> None:
    left_behind(folder)
    remove_run_leftovers(folder)
    assert not Path(folder).exists()
    remove_run_leftovers(folder)  # does nothing and creates nothing
    assert not Path(folder).exists()


def test_folders_of_dead_runs_are_removed(runtime: Path, folder: str) -> None:
    dead, mine = (str(runtime / "pipe" / f"run-{pid}") for pid in (ended(), os.getpid()))
    others = [str(runtime / "pipe" / name) for name in ("default", "run-", "run-x")]
    for left in (folder, dead, mine, *others):
        left_behind(left)
    remove_run_leftovers(folder)
    assert [Path(left).exists() for left in (folder, dead, mine, *others)] == [False, False, True, True, True, True]


def test_dead_run_with_a_living_sink_is_kept(runtime: Path, folder: str) -> None:
    dead = str(runtime / "pipe" / f"run-{ended()}")
    left_behind(dead)
    with held_elsewhere(dead, "sink"):
        remove_run_leftovers(folder)
        assert Path(dead, "control").exists()
    remove_run_leftovers(folder)
    assert not Path(dead).exists()


def test_files_of_living_processes_are_kept(folder: str) -> None:
    left_behind(folder)
    with held_elsewhere(folder, "sink"):
        remove_run_leftovers(folder)
        assert Path(folder, "control").exists()
        assert Path(folder, "sink.lock").exists()
