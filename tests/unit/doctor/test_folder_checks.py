"""The folders of a run, as a test has furnished them."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.doctor import environment_checks
from pipeline.transport import endpoints
from pipeline.transport.endpoints import EndpointLock

GIB = 1 << 30


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The runtime folder, not made yet; pytest's paths are too long for ipc."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder, "pipe")


def test_a_runtime_folder_must_be_private(base: Path) -> None:
    assert environment_checks.check_runtime_folder().detail == f"{base} will be made"
    assert not base.exists()
    base.mkdir(mode=0o700)
    assert environment_checks.check_runtime_folder().state == "ok"
    base.chmod(0o750)
    found = environment_checks.check_runtime_folder()
    assert (found.state, found.fix) == ("bad", f"chmod 700 {base}")
    assert "(0750)" in found.detail


def test_a_runtime_folder_must_be_ours_and_a_folder(base: Path) -> None:
    base.touch(mode=0o600)
    found = environment_checks.check_runtime_folder()
    assert (found.state, found.detail) == ("bad", f"{base} is not a folder of yours")
    assert "XDG_RUNTIME_DIR" in found.fix


def test_a_runtime_folder_that_cannot_be_made_is_told() -> None:
    found = environment_checks.check_runtime_folder("/nowhere/at/all/pipe")
    assert (found.state, "/nowhere/at/all is not there" in found.detail) == ("bad", True)


def test_a_path_too_long_for_ipc_is_found_before_it_bites(base: Path) -> None:
    room = endpoints.MAX_PATH_BYTES - environment_checks.MAX_SOCKET_NAME_BYTES
    assert (
        environment_checks.check_runtime_folder(f"{base.parent}/{'x' * (room - len(f'{base.parent}/'))}").state == "ok"
    )
    found = environment_checks.check_runtime_folder(f"{base.parent}/{'x' * (room + 1 - len(f'{base.parent}/'))}")
    assert (found.state, "is 1 bytes too long" in found.detail) == ("bad", True)


def test_sockets_are_tried_and_leave_nothing(base: Path) -> None:
    base.mkdir(mode=0o700)
    assert environment_checks.check_sockets().state == "ok"
    assert list(base.iterdir()) == []
    found = environment_checks.check_sockets("/proc/self/fd")  # a folder in which nothing can be made
    assert (found.state, "can be made in /proc/self/fd" in found.detail) == ("bad", True)


@pytest.mark.parametrize(
    ("free", "kind", "state", "says"),
    [
        (5 * GIB, "ext4", "ok", "has 5.0 GiB free"),
        (GIB // 2, "ext4", "warn", "has 512 MiB free: with -k"),
        (1 << 20, "ext4", "bad", "has 1 MiB free"),
        (5 * GIB, "tmpfs", "warn", "is in memory (tmpfs)"),
    ],
)
def test_what_waits_for_its_turn_must_have_room(tmp_path: Path, free: int, kind: str, state: str, says: str) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"root / ext4 rw 0 0\nx {tmp_path} {kind} rw 0 0\ny {tmp_path}-other nfs rw 0 0\n")
    found = environment_checks.check_temporary_folder(str(tmp_path), str(mounts), free)
    assert (found.state, says in found.detail, bool(found.fix)) == (state, True, state != "ok")


def test_a_tmpdir_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    found = environment_checks.check_temporary_folder()
    assert (found.state, found.detail) == ("bad", f"{tmp_path / 'gone'} is no folder")
    assert "TMPDIR" in found.fix


@pytest.mark.parametrize(
    ("free", "kind", "state", "says"),
    [
        (5 * GIB, "ext4", "ok", "5.0 GiB free"),
        (1 << 20, "ext4", "warn", "would soon wait for room"),
        (5 * GIB, "nfs4", "warn", "over a network (nfs4)"),
    ],
)
def test_the_folder_of_an_output_is_looked_at(tmp_path: Path, free: int, kind: str, state: str, says: str) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"x / {kind} rw 0 0\n")
    found = environment_checks.check_current_folder(str(tmp_path), str(mounts), free)
    assert (found.state, says in found.detail, bool(found.fix)) == (state, True, state != "ok")


def test_a_folder_that_cannot_be_written_is_told() -> None:
    found = environment_checks.check_current_folder("/proc/self/fd")
    assert (found.state, "-o FILE must be elsewhere" in found.detail) == ("warn", True)


def test_the_nearest_mount_counts(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("a / ext4 rw\nb /data nfs rw\nc /data/fast xfs rw\nbroken\n")
    kinds = [environment_checks.filesystem_type(path, str(mounts)) for path in ("/data/x", "/data/fast", "/database")]
    assert kinds == ["nfs", "xfs", "ext4"]
    assert environment_checks.filesystem_type("/x", str(tmp_path / "none")) == ""


def test_what_dead_runs_left_is_named_and_what_lives_is_not(base: Path) -> None:
    assert environment_checks.check_leftovers().state == "ok"
    assert environment_checks.check_live_runs().detail == "none is at work"
    lock = EndpointLock(str(base / "living"), "sink")
    only_ventilator = EndpointLock(str(base / "half"), "ventilator")
    (base / "run-99").mkdir(mode=0o700)
    assert environment_checks.check_leftovers().state == "ok"  # an empty folder is nothing
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(base / "run-99" / "desk"))
    (base / "run-99" / "sink.lock").touch()
    found = environment_checks.check_leftovers()
    assert (found.state, found.fix) == ("warn", f"rm -r {base}/run-99")
    assert environment_checks.check_live_runs().detail == "living (see `pipe top --name living`)"
    assert (base / "run-99" / "desk").exists()
    lock.release()
    only_ventilator.release()
