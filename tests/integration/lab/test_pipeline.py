"""The lab's parallel pipeline: each program with those of the guide, all together, and with a killed worker.

Minimal copies of the guide's programs are included here; they block for ever where the originals do.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import PIPE, Popen

import pytest
import zmq
from psutil import Process

from pipeline.lab.ventilator import milliseconds
from pipeline.lab.worker import milliseconds as read
from tests.support.lab_programs import (
    TIMEOUT_SECONDS,
    becomes_true,
    free_ports,
    run_lab,
    start_program,
    wait_for_end,
    wait_until_ready,
)

TASKS = 20
GUIDES = {
    "ventilator": """
sender, sink = context.socket(zmq.PUSH), context.socket(zmq.PUSH)
sender.bind(f"tcp://*:{deal}")
sink.connect(f"tcp://localhost:{results}")
input()
sink.send(b"0")
for task in range(TASKS):
    sender.send(str(task % 3 + 9).encode())
""",
    "worker": """
receiver, sender, controller = context.socket(zmq.PULL), context.socket(zmq.PUSH), context.socket(zmq.SUB)
receiver.connect(f"tcp://localhost:{deal}")
sender.connect(f"tcp://localhost:{results}")
controller.connect(f"tcp://localhost:{control}")
controller.setsockopt(zmq.SUBSCRIBE, b"")
poller = zmq.Poller()
poller.register(receiver, zmq.POLLIN)
poller.register(controller, zmq.POLLIN)
print("ready", flush=True)
done = 0
while True:
    ready = dict(poller.poll())
    if receiver in ready:
        time.sleep(int(receiver.recv()) / 1000)
        sender.send(b"")
        done += 1
    if controller in ready:
        break
print(done, controller.recv().decode())
""",
    "sink": """
receiver, controller = context.socket(zmq.PULL), context.socket(zmq.PUB)
receiver.bind(f"tcp://*:{results}")
controller.bind(f"tcp://*:{control}")
print("ready", flush=True)
got = [receiver.recv() for _ in range(1 + TASKS)]
controller.send(b"KILL")
print(got.count(b"0"), got.count(b""))
""",
}
OURS = {
    "ventilator": "ventilator --port {deal} --sink-port {results} --tasks {tasks} --workers {workers}",
    "worker": "worker --port {deal} --sink-port {results} --control-port {control}",
    "sink": "sink --port {results} --control-port {control} --tasks {tasks}",
}


@contextmanager
def guides(name: str, deal: int, results: int, control: int) -> Iterator[Popen[str]]:
    """Run a program of the guide, and kill it at the end."""
    head = f"import sys, time, zmq\nTASKS, deal, results, control = {TASKS}, {deal}, {results}, {control}\n"
    code = f"{head}context = zmq.Context()\n{GUIDES[name]}\ncontext.destroy()\n"
    program = Popen([sys.executable, "-c", code], stdin=PIPE, stdout=PIPE, text=True)
    try:
        yield program
    finally:
        program.kill()
        program.communicate()


def is_reached(program: Popen[str], port: int) -> bool:
    """Return whether a peer is connected to this port. As the guide says, a later subscriber misses the KILL."""
    found = Process(program.pid).net_connections("tcp4")
    return any(each.laddr.port == port and each.status == "ESTABLISHED" for each in found)


def test_our_ventilator_feeds_guide_worker_and_sink() -> None:
    deal, results, control = free_ports(3)
    with guides("sink", deal, results, control) as sink, guides("worker", deal, results, control) as worker:
        wait_until_ready(sink)
        wait_until_ready(worker)
        assert becomes_true(lambda: is_reached(sink, control))
        line = OURS["ventilator"].format(deal=deal, results=results, tasks=TASKS, workers=1)
        work = sum(milliseconds(task) for task in range(TASKS))
        assert run_lab(*line.split()) == (0, f"sent {TASKS} tasks: {work} ms of work\n")
        assert wait_for_end(sink) == (0, f"1 {TASKS}\n")
        assert wait_for_end(worker) == (0, f"{TASKS} KILL\n")


def test_our_worker_serves_guide_ventilator_and_sink() -> None:
    where = dict(zip(("deal", "results", "control"), free_ports(3), strict=True))
    with guides("sink", **where) as sink, guides("ventilator", **where) as ventilator:
        wait_until_ready(sink)
        with start_program(*OURS["worker"].format(**where).split()) as worker:
            wait_until_ready(worker)
            assert becomes_true(lambda: is_reached(sink, where["control"]))
            ventilator.communicate("\n")
            assert wait_for_end(sink) == (0, f"1 {TASKS}\n")
            assert wait_for_end(worker) == (0, f"{'.' * TASKS}\nKILL after {TASKS} tasks\n")


def test_our_sink_counts_and_kills_guide_worker() -> None:
    where = dict(zip(("deal", "results", "control"), free_ports(3), strict=True))
    with (
        start_program(*OURS["sink"].format(tasks=TASKS, **where).split()) as sink,
        guides("worker", **where) as worker,
        guides("ventilator", **where) as ventilator,
    ):
        wait_until_ready(sink)
        wait_until_ready(worker)
        assert becomes_true(lambda: is_reached(sink, where["control"]))
        ventilator.communicate("\n")
        code, printed = wait_for_end(sink)
        dots = "".join(":" if task % 10 == 0 else "." for task in range(TASKS))
        assert code == 0
        assert re.fullmatch(rf"{re.escape(dots)}\n{TASKS} of {TASKS} results, total elapsed time: \d+ ms\n", printed)
        assert wait_for_end(worker) == (0, f"{TASKS} KILL\n")


def test_sink_reports_missing_results_and_still_kills() -> None:
    results, control = free_ports(2)
    line = OURS["sink"].format(results=results, control=control, tasks=3)
    with zmq.Context() as context, context.socket(zmq.PUSH) as sender, context.socket(zmq.SUB) as controller:
        sender.connect(f"tcp://127.0.0.1:{results}")
        with start_program(*line.split(), "--patience", 1) as sink:
            wait_until_ready(sink)
            controller.connect(f"tcp://127.0.0.1:{control}")
            controller.subscribe(b"")
            assert becomes_true(lambda: is_reached(sink, control))
            for message in (b"0", b"", b""):
                sender.send(message)
            assert controller.poll(int(TIMEOUT_SECONDS * 1000))
            assert controller.recv() == b"KILL"
            code, printed = wait_for_end(sink)
    assert code == 1
    assert printed.startswith(":.\n2 of 3 results")
    assert "1 results are missing" in printed


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ventilator --port {0} --workers 2 --patience 0.1", "only 0 of 2 workers connected within 0.1 s"),
        ("ventilator --port {0} --sink-port {1} --workers 0 --patience 0.1", "no sink connected within 0.1 s"),
        ("worker --port {0} --sink-port {1} --control-port {2} --patience 0.1", "no message for 0.1 s"),
        ("sink --port {0} --control-port {1} --start 0.1", "no batch began within 0.1 s"),
    ],
)
def test_program_without_peers_gives_up(line: str, message: str) -> None:
    code, printed = run_lab(*line.format(*free_ports(3)).split())
    assert code == 3
    assert message in printed


def test_ventilator_does_not_count_a_gone_worker() -> None:
    deal, results, control = free_ports(3)
    where = {"deal": deal, "results": results, "control": control}
    line = OURS["ventilator"].format(deal=deal, results=results, tasks=TASKS, workers=2)
    with start_program(*line.split(), "--patience", 8) as ventilator, guides("worker", **where) as one:
        wait_until_ready(one)
        assert becomes_true(lambda: is_reached(ventilator, deal))
        one.kill()
        one.wait()
        with guides("worker", **where) as other:
            wait_until_ready(other)
            code, printed = wait_for_end(ventilator)
    assert (code, printed) == (3, "only 1 of 2 workers connected within 8 s\n")


@pytest.mark.parametrize(
    ("task", "work"),
    [(b"37", 37), (b"37\0", 37), (b" 5\n", 5), (b"12abc", 12), (b"9" * 5000, 60_000), (b"x", 0), (b"", 0)],
)
def test_work_is_parsed_like_atoi(task: bytes, work: int) -> None:
    assert read(task) == work
