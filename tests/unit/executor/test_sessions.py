"""Sessions of real processes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from pipeline.executor import task_process
from tests.support.processes import is_alive, wait_until


def start_session(folder: Path) -> tuple[subprocess.Popen[bytes], list[int]]:
    """Start a session of three groups, one of which forks without end; return its leader and the stable pids."""
    text = f"""
        set -m
        sleep 1000 & echo $! > {folder}/background
        sh -c 'trap "" TERM HUP; while :; do sleep 1000 & sleep 0.001; done' &
        echo $! > {folder}/forker; touch {folder}/ready; wait
    """
    leader = subprocess.Popen(["sh", "-c", text], start_new_session=True)
    wait_until((folder / "ready").exists)
    return leader, [leader.pid, *(int((folder / name).read_text()) for name in ("background", "forker"))]


def test_kill_sessions_kills_all_groups_of_a_session(tmp_path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    leader, members = start_session(tmp_path)
    assert set(members) <= set(task_process.list_alive_pids([leader.pid]))
    task_process.kill_sessions([leader.pid])
    wait_until(lambda: not task_process.list_alive_pids([leader.pid]))
    assert not any(map(is_alive, members))
    assert task_process.list_alive_pids([bystander.pid]) == [bystander.pid]
    task_process.kill_sessions({bystander.pid})
    assert leader.wait(10) == bystander.wait(10) == -9


def test_kill_sessions_without_sessions_kills_nothing() -> None:
    task_process.kill_sessions([])
    assert task_process.list_alive_pids([]) == []


def test_list_alive_pids_skips_zombies() -> None:
    child = subprocess.Popen(["true"], start_new_session=True)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert os.getsid(child.pid) == child.pid
    assert task_process.list_alive_pids([child.pid]) == []
    task_process.kill_sessions([child.pid])
    assert child.wait(10) == 0
