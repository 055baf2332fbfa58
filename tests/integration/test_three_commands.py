"""Ventilator, workers and sink as separate commands: any start order, and a report of missing stations."""

from __future__ import annotations

import os
import signal
from itertools import permutations
from typing import TYPE_CHECKING

import pytest
import zmq

from pipeline.model.messages import Kill
from pipeline.model.state_machine import Port
from pipeline.transport.channels import ControlPublisher
from pipeline.transport.codec import TOPIC, decode
from pipeline.transport.sockets import ZmqContext
from tests.integration.cluster import TIMEOUT_SECONDS
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.cluster import Cluster, PipeProcess


ROLES = ("sink", "ventilate", "work")
TASKS = "".join(f"{number}\n" for number in range(40))
GOT = sorted(f"got {number}" for number in range(40))


def begin(cluster: Cluster, role: str) -> PipeProcess:
    """Start one command, and wait until it has created its context."""
    words = {"work": ("-v", "echo got {}")}.get(role, ("-v",))
    player = cluster.start(role, *words, tasks=TASKS if role == "ventilate" else "")
    player.wait_for_stderr("created ZeroMQ context")
    return player


@pytest.mark.parametrize("order", list(permutations(ROLES)), ids="-".join)
def test_any_start_order_writes_all_results(cluster: Cluster, order: tuple[str, ...]) -> None:
    players = {role: begin(cluster, role) for role in order}
    assert [players[role].wait() for role in ROLES] == [0, 0, 0]
    assert players["sink"].lines == GOT
    assert "pipe: 40 tasks, 0 failed" in players["sink"].stderr.splitlines()[-1]
    cluster.assert_empty()


def test_missing_station_is_reported_until_it_arrives(cluster: Cluster) -> None:
    place = "--name elsewhere"
    vent = cluster.start("ventilate", *place.split(), tasks=TASKS)
    lone = cluster.start("work", "--name", "other", "echo")
    looking = f"; looking in {cluster.runtime_folder}/pipe"
    vent.wait_for_stderr(f"pipe: no sink connected; start one with `pipe sink {place}`{looking}/elsewhere\n")
    lone.wait_for_stderr(
        f"pipe: no ventilator connected; start one with `pipe ventilate --name other FILE`{looking}/other\n"
    )
    sink = cluster.start("sink", *place.split())
    vent.wait_for_stderr("pipe: sink connected\n")
    vent.wait_for_stderr(f"pipe: no worker connected; start one with `pipe work {place} COMMAND`{looking}/elsewhere\n")
    work = cluster.start("work", *place.split(), "echo got {}")
    assert [vent.wait(), sink.wait(), work.wait()] == [0, 0, 0]
    assert "pipe: worker connected\n" in vent.stderr
    assert sink.lines == GOT
    lone.send_signal(15)
    assert lone.wait() == 143


def test_first_task_runs_before_the_input_ends(cluster: Cluster) -> None:
    read, write = os.pipe()
    run = cluster.start("run", "echo got {}", tasks=read)
    os.close(read)
    os.write(write, b"one\n")
    wait_until(lambda: run.stdout == "got one\n")
    os.write(write, b"two")
    os.close(write)
    assert run.wait() == 0
    assert run.lines == ["got one", "got two"]


def test_restarted_ventilator_resumes_its_run(cluster: Cluster) -> None:
    tasks = cluster.path("tasks")
    tasks.write_text("".join(f"{number}\n" for number in range(200)))
    feed = ("ventilate", "--chunk", "4", "--interval", "0.2", "--liveness", "1.5", tasks)
    sink, work = cluster.start("sink"), cluster.start("work", "-j", "2", "echo {}")
    # it dies after at most 5 * 4 tasks, so the run cannot end without the next one
    first = cluster.start(*feed, PIPE_FAILPOINT="ventilator.chunk-sent:5=kill")
    assert first.wait() == -signal.SIGKILL
    again = cluster.start(*feed)
    assert [again.wait(), sink.wait(), work.wait()] == [0, 0, 0]
    assert sink.lines == sorted(map(str, range(200)))
    cluster.assert_empty()


@pytest.mark.parametrize("order", [("sink", "ventilate"), ("ventilate", "sink")], ids="-".join)
def test_output_that_is_the_input_is_refused(cluster: Cluster, order: tuple[str, str]) -> None:
    cluster.path("tasks").write_text(TASKS)
    os.link(cluster.path("tasks"), cluster.path("out"))
    words = {"sink": ("-o", "out"), "ventilate": ("tasks",)}
    first = cluster.start(order[0], "-v", *words[order[0]])
    first.wait_for_stderr(f"no {order[1].removesuffix('e')}")  # it waits for the other one
    second = cluster.start(order[1], *words[order[1]])
    assert second.wait() == 2
    assert "are the same file\n" in second.stderr
    assert cluster.path("tasks").read_text() == TASKS
    first.send_signal(15)
    assert first.wait() == 143


def test_pipelines_in_one_folder_are_independent(cluster: Cluster) -> None:
    runs = [cluster.start("run", "sh", "-c", f"sleep 0.05; echo {number} $0", tasks="x\ny\n") for number in range(3)]
    assert [run.wait() for run in runs] == [0, 0, 0]
    assert [run.lines for run in runs] == [[f"{number} x", f"{number} y"] for number in range(3)]


def test_kill_between_welcome_and_subscription_is_received(tmp_path: Path) -> None:
    own, at = ZmqContext(), f"ipc://{tmp_path}/control"
    control = ControlPublisher(own, at)
    with zmq.Context() as context, context.socket(zmq.XSUB) as late:
        late.connect(at)
        late.send(b"\1something else")
        control.send(Port.CONTROL, Kill("run", "soon", "first", 0))
        assert zmq.select(control.pollables(), [], [], TIMEOUT_SECONDS)[0]  # connected, so the welcome has arrived
        control.receive()
        sent, received = Kill("run", "now", "second", 0), None
        control.send(Port.CONTROL, sent)
        late.send(b"\1" + TOPIC[Kill])
        while received != sent:
            wait_until(lambda: not control.receive() and late.poll(10))
            received = decode(late.recv_multipart())
    control.close()
    own.close()
