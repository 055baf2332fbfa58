from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.cli import render
from pipeline.words.errands import Foreign
from pipeline.words.messages import WHY, Glance, Status
from pipeline.words.notices import Began, Ended, Full, Lost, Missing, Preparing, Present, Refused, Stuck
from pipeline.words.parts import Doing, Member
from pipeline.words.settings import Settings

STATUS = Status("ab12", "feeding", 1234, 3, 10_000, -1, (), ())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(), ""),
        (Settings(name="hashes"), " --name hashes"),
        (Settings(at="tcp://h", insecure=True), " --at tcp://h --insecure"),
        (
            Settings(desk="ipc:///d", results="ipc:///r", control="ipc:///c"),
            " --desk ipc:///d --results-at ipc:///r --control-at ipc:///c",
        ),
    ],
)
def test_a_place_is_the_options_that_lead_there(settings: Settings, expected: str) -> None:
    assert render.place(settings) == expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (Missing("worker"), "no worker has checked in; start one with `pipe work --name x COMMAND`"),
        (Missing("ventilator"), "no ventilator has come; start one with `pipe ventilate --name x FILE`"),
        (Missing("sink"), "no sink has answered; start one with `pipe sink --name x`"),
        (Present("worker"), "a worker has checked in"),
        (Present("ventilator"), "the ventilator is here"),
        (Present("sink"), "the sink is here"),
        (Lost("host-1", 1), "worker host-1 fell silent; 1 task of its own goes out again"),
        (Lost("host-1", 1200), "worker host-1 fell silent; 1,200 tasks of its own go out again"),
        (Lost("host-1", 0), "worker host-1 fell silent; it held no task"),
        (Refused("host-2", "another command:\n\x1b[2J gzip"), "host-2 was turned away: another command:??[2J gzip"),
        (Began("sink", 47, "context 0x7f"), "sink 47 has a context of its own, context 0x7f"),
        (Ended("worker", "the sink is gone"), "the worker ends: the sink is gone"),
        (Ended("worker", "--init failed:\n  a trace\x1b[2J"), "the worker ends: --init failed:\n  a trace?[2J"),
        (
            Foreign(b"", "pipe9"),
            "a peer speaks protocol pipe9, this is pipe1; install the same version of pipe on both sides",
        ),
        (
            Full(41, full=True),
            "--spill-limit is reached: nothing new starts until task 42 has ended, whose result all others wait for",
        ),
        (
            Stuck("out: No space left on device after 5 bytes"),
            "out: No space left on device after 5 bytes: waiting for room, and going on by itself when there is some",
        ),
        (Stuck(""), "there is room on the disk again"),
        (Preparing("m:f"), "no task runs yet: --call m:f is still being imported"),
        (Full(1041, full=False), "there is room again; task 1,042 is next"),
    ],
)
def test_each_word_for_the_person_is_one_sentence(told: render.Sentence, expected: str) -> None:
    assert render.sentence(told, " --name x") == expected


def test_who_has_a_launcher_is_not_asked_to_start_anything() -> None:
    assert render.sentence(Missing("worker"), None) == "no worker has checked in"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (replace(STATUS, rate=567.0), "1,234 of 10,000 done, 3 failed, 567/s, 0:15 left"),
        (STATUS, "1,234 of 10,000 done, 3 failed"),
        (replace(STATUS, total=-1, rate=0.5, retrying=2), "1,234 done, 3 failed, 2 to be tried again, 0.50/s"),
        (replace(STATUS, settled=10_000, failed=0, rate=1e6), "10,000 of 10,000 done, 1,000,000/s, 0:00 left"),
        (replace(STATUS, rate=0.5), "1,234 of 10,000 done, 3 failed, 0.50/s, 4:52:12 left"),
    ],
)
def test_progress(status: Status, expected: str) -> None:
    assert render.progress(status) == expected


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (80, "[###...........................]  12% 1,234 of 10,000 done, 3 failed"),
        (50, "[#...........]  12% 1,234 of 10,000 done, 3 failed"),
        (36, " 12% 1,234 of 10,000 done, 3 failed"),
        (12, " 12% 1,234 o"),
    ],
)
def test_a_bar_is_as_wide_as_the_terminal_allows(width: int, expected: str) -> None:
    assert render.bar(STATUS, width) == expected
    assert len(expected) <= width


def test_where_the_end_is_unknown_there_is_no_bar() -> None:
    assert render.bar(replace(STATUS, total=-1), 80) == "1,234 done, 3 failed"
    assert render.bar(replace(STATUS, total=0, settled=0, failed=0), 80) == "0 of 0 done"


@pytest.mark.parametrize(
    ("settled", "total", "elapsed", "expected"),
    [
        (100, 100, 5.2, "100 tasks, 0 failed, 5.2 s, 19.2 tasks/s"),
        (1, 1, 0.1, "1 task, 0 failed, 0.1 s, 10.0 tasks/s"),
        (0, 0, 0.0, "0 tasks, 0 failed, 0.0 s, 0.00 tasks/s"),
        (40, 100, 4.0, "40 of 100 tasks, 0 failed, 4.0 s, 10.0 tasks/s"),
        (7200, -1, 3600.0, "7,200 tasks, 0 failed, 1:00:00, 2.00 tasks/s"),
    ],
)
def test_summary(settled: int, total: int, elapsed: float, expected: str) -> None:
    assert render.summary(replace(STATUS, settled=settled, total=total, failed=0), elapsed) == expected


def test_overview_of_a_run() -> None:
    doing = (Doing(3, 1, 0.25, "gzip\x1b[2J four"), Doing(1_000_000, 2, 75.0, "gzip b"))
    members = (
        Member("host-1-ab", "gzip\t{}", 2, 1, 617, 0.24, 1.5, 250_000_000, doing[:1]),
        Member("h2", "gzip {}", 16, 16, 1_234_567, 3.0, 12.0, 1_500_000_000, doing[1:]),
    )
    status = replace(STATUS, turn=16, members=members, awaited=("host-1-ab", "h2"), why="turn")
    assert render.overview(status).splitlines() == [
        "run ab12, feeding: 1,234 of 10,000 done, 3 failed",
        "nothing runs: order waits for task 17",
        "order waits for task 17",
        "waiting for the goodbye of host-1-ab, h2",
        "",
        "WORKER     SLOTS  RUNNING         DONE   CPU    MEMORY  SILENT  COMMAND",
        "host-1-ab      2        1          617   1.5    250 MB   0.2 s  gzip?{}",
        "h2            16       16    1,234,567  12.0    1.5 GB   3.0 s  gzip {}",
        "  task 1,000,001, 1:15: gzip b",
        "  task 4, 0.2 s: gzip?[2J four",
    ]


@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("worker", "no worker has checked in; start one with `pipe work --name x COMMAND`"),
        ("ventilator", "nobody reads tasks; start `pipe ventilate --name x FILE`"),
        ("slots", "all 2 slots are busy"),
        ("output", "the output takes nothing: its reader is slow, or the disk is full"),
        ("spill", "--spill-limit is reached: all wait for task 8 to end"),
        ("input", "the input has said nothing more"),
        ("turn", "nothing runs: order waits for task 8"),
    ],
)
def test_each_reason_why_nothing_runs_is_a_sentence(why: str, said: str) -> None:
    status = replace(STATUS, why=why, turn=7, members=(Member("w", "c", 2, 2, 0, 0.0),))
    assert render.reason(status, " --name x") == said
    assert said in render.overview(status, " --name x").splitlines()


def test_every_reason_has_its_sentence() -> None:
    assert all(render.reason(replace(STATUS, why=why), None) != why for why in WHY)


def test_a_glance_is_one_worker_and_what_it_runs() -> None:
    seen = Glance("h.1.a", 1.25, 2_000_000, (Doing(0, 1, 2.0, "sleep 9"),))
    assert render.glance(seen) == "worker h.1.a: 1.2 CPUs, 2 MB, 1 task running\n  task 1, 2.0 s: sleep 9"


def test_figures_have_three_digits() -> None:
    assert [render.figure(value) for value in (0.0, 0.519, 9.99, 19.23, 99.94, 100.4, 1234.5)] == [
        "0.00", "0.52", "9.99", "19.2", "99.9", "100", "1,234",
    ]  # fmt: skip
