"""Checks of directories: runtime directory, TMPDIR, current directory, leftovers."""

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
    """The runtime directory, not created yet; pytest's paths are too long for ipc."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder, "pipe")


def test_check_runtime_folder_shared_is_bad(base: Path) -> None:
    assert environment_checks.check_runtime_folder().detail == f"{base} will be created"
    assert not base.exists()
    base.mkdir(mode=0o700)
    assert environment_checks.check_runtime_folder().state == "ok"
    base.chmod(0o750)
    result = environment_checks.check_runtime_folder()
    assert (result.state, result.fix) == ("bad", f"chmod 700 {base}")
    assert "(mode 0750)" in result.detail


def test_check_runtime_folder_not_a_directory_is_bad(base: Path) -> None:
    base.touch(mode=0o600)
    result = environment_checks.check_runtime_folder(str(base))
    assert (result.state, result.detail) == ("bad", f"{base} is not a directory of this user")
    assert "XDG_RUNTIME_DIR" in result.fix


def test_check_runtime_folder_missing_parent_is_bad() -> None:
    result = environment_checks.check_runtime_folder("/nowhere/at/all/pipe")
    assert (result.state, "/nowhere/at/all: no such file" in result.detail) == ("bad", True)


def test_check_runtime_folder_stale_variable_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/etc/passwd")
    result = environment_checks.check_runtime_folder()
    assert (result.state, result.fix) == ("warn", "unset XDG_RUNTIME_DIR, or set it for all stations")
    assert "is used instead of /etc/passwd/pipe: /etc/passwd is not a directory" in result.detail


def test_check_runtime_folder_long_path_is_bad(base: Path) -> None:
    room = endpoints.MAX_PATH_BYTES - endpoints.MAX_SOCKET_NAME_BYTES
    assert (
        environment_checks.check_runtime_folder(f"{base.parent}/{'x' * (room - len(f'{base.parent}/'))}").state == "ok"
    )
    result = environment_checks.check_runtime_folder(f"{base.parent}/{'x' * (room + 1 - len(f'{base.parent}/'))}")
    assert (result.state, "is 1 bytes too long" in result.detail) == ("bad", True)


def test_check_sockets_leaves_nothing_behind(base: Path) -> None:
    base.mkdir(mode=0o700)
    assert environment_checks.check_sockets().state == "ok"
    assert list(base.iterdir()) == []
    result = environment_checks.check_sockets("/proc/self/fd")  # nothing can be created there
    assert (result.state, "cannot be created in /proc/self/fd" in result.detail) == ("bad", True)


@pytest.mark.parametrize(
    ("free", "kind", "state", "detail"),
    [
        (5 * GIB, "ext4", "ok", "has 5.0 GiB free"),
        (GIB // 2, "ext4", "warn", "has 512 MiB free: with -k"),
        (1 << 20, "ext4", "bad", "has 1 MiB free"),
        (5 * GIB, "tmpfs", "warn", "is in memory (tmpfs)"),
    ],
)
def test_check_temporary_folder_low_space_is_not_ok(
    tmp_path: Path, free: int, kind: str, state: str, detail: str
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"root / ext4 rw 0 0\nx {tmp_path} {kind} rw 0 0\ny {tmp_path}-other nfs rw 0 0\n")
    result = environment_checks.check_temporary_folder(str(tmp_path), str(mounts), free)
    assert (result.state, detail in result.detail, bool(result.fix)) == (state, True, state != "ok")


def test_check_temporary_folder_missing_is_bad(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    result = environment_checks.check_temporary_folder()
    assert (result.state, result.detail) == ("bad", f"{tmp_path / 'gone'} is not a directory")
    assert "TMPDIR" in result.fix


@pytest.mark.parametrize(
    ("free", "kind", "state", "detail"),
    [
        (5 * GIB, "ext4", "ok", "5.0 GiB free"),
        (1 << 20, "ext4", "warn", "would soon pause"),
        (5 * GIB, "nfs4", "warn", "on a network file system (nfs4)"),
    ],
)
def test_check_current_folder_unsafe_journal_warns(
    tmp_path: Path, free: int, kind: str, state: str, detail: str
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"x / {kind} rw 0 0\n")
    result = environment_checks.check_current_folder(str(tmp_path), str(mounts), free)
    assert (result.state, detail in result.detail, bool(result.fix)) == (state, True, state != "ok")


def test_check_current_folder_not_writable_warns() -> None:
    result = environment_checks.check_current_folder("/proc/self/fd")
    assert (result.state, "-o FILE must be elsewhere" in result.detail) == ("warn", True)


def test_filesystem_type_nested_mount_wins(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("a / ext4 rw\nb /data nfs rw\nc /data/fast xfs rw\nbroken\n")
    kinds = [environment_checks.filesystem_type(path, str(mounts)) for path in ("/data/x", "/data/fast", "/database")]
    assert kinds == ["nfs", "xfs", "ext4"]
    assert environment_checks.filesystem_type("/x", str(tmp_path / "none")) == ""


def test_check_leftovers_names_dead_runs_only(base: Path) -> None:
    assert environment_checks.check_leftovers().state == "ok"
    assert environment_checks.check_live_runs().detail == "none"
    lock = EndpointLock(str(base / "living"), "sink")
    only_ventilator = EndpointLock(str(base / "half"), "ventilator")
    (base / "run-99").mkdir(mode=0o700)
    assert environment_checks.check_leftovers().state == "ok"  # an empty directory does not count
    with socket.socket(socket.AF_UNIX) as leftover:
        leftover.bind(str(base / "run-99" / "registry"))
    (base / "run-99" / "sink.lock").touch()
    result = environment_checks.check_leftovers()
    assert (result.state, result.fix) == ("warn", f"rm -r {base}/run-99")
    assert environment_checks.check_live_runs().detail == "living (see `pipe top --name living`)"
    assert (base / "run-99" / "registry").exists()
    lock.release()
    only_ventilator.release()
