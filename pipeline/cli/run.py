"""`pipe run`: ventilator, workers and sink forked on this machine.

Promises: what all children need is imported once, before the fork. Never opens a socket or a context itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.cli import sink, ventilate
from pipeline.cli.ends import guarded
from pipeline.words.errors import TASKS_FAILED
from pipeline.words.settings import Settings
from pipeline.words.station import Message
from pipeline.words.structs import replace

if TYPE_CHECKING:
    from pipeline.cli.screen import Screen
    from pipeline.house.launcher import Post

HELP = """Run COMMAND for each task, on this machine.

One COMMAND word is a shell line, several are an argv without a shell. {} is the task; without {} it is appended.
Options end at the first word of COMMAND. Tasks are the lines of stdin, of files (-a) or the words after `:::`.
With -o FILE the run has a journal beside it, FILE.journal: whatever was killed, --resume goes on with what is not done.

\b
Examples:
  seq 100 | pipe run 'sleep 0.{}; echo slept {}'
  pipe run gzip -k {} ::: *.log
  pipe run -k -j 4 'curl -s {}' < urls.txt > pages.txt
  pipe run -a words.txt -o lengths.txt --call builtins:len
  find . -type f -print0 | pipe run -0 sha256sum
  pipe run -a urls.txt -o pages.txt --retries 3 --timeout 30s 'curl -sf {}'
  pipe run -a urls.txt -o pages.txt --resume 'curl -sf {}'       after a kill, or a power cut
"""


def main(settings: Settings, screen: Screen) -> int:
    """Launch the stations; the run's exit code."""
    from pipeline import assembly, safe
    from pipeline.cli import unfinished
    from pipeline.house.launcher import launch
    from pipeline.wire import places

    settings = safe.rehearsed(settings)
    _check(settings)
    if not unfinished.begin(settings, screen.say):
        return assembly.conclude(settings)
    ventilate.invite(settings, screen)
    screen.launched = True
    try:
        code = launch(posts(settings, screen), screen.say, verbose=settings.verbose > 0)
    finally:
        places.tidy(places.meeting_place(settings).folder)
    if code > TASKS_FAILED:
        unfinished.say_how_to_go_on(settings, screen.say)
    return code


def posts(settings: Settings, screen: Screen) -> list[Post]:
    """Who takes part: the sink first, so that nobody has to wait for it."""
    from pipeline import assembly, beside
    from pipeline.house.launcher import Post

    again = replace(settings, resume_failed=False)  # what has failed is done again once, not by each new sink
    feed = replace(settings, slots=sum(shares(settings)))
    read = guarded(lambda: assembly.ventilate(feed, screen.told))
    crew = [
        Post(
            "sink",
            guarded(lambda: sink.collect(settings, screen)),
            guarded(lambda: sink.collect(again, screen)) if beside.journal_path(settings) else None,
        ),
        Post("ventilator", read, _from_the_start(read) if beside.can_reread(settings) else None),
    ]
    for number, jobs in enumerate(shares(settings), start=1):
        work = guarded(_worker(replace(settings, jobs=jobs), screen))
        crew.append(Post(f"worker-{number}", work, work))
    return crew


def _from_the_start(read: Callable[[], int]) -> Callable[[], int]:
    """The same where the one before has read from stdin, whose offset it has moved for all of us."""
    from pipeline import beside

    if not beside.is_regular(0):
        return read
    start = os.lseek(0, 0, os.SEEK_CUR)

    def again() -> int:
        os.lseek(0, start, os.SEEK_SET)
        return read()

    return again


def _check(settings: Settings) -> None:
    """Raise UsageError for what each station would complain of: told here, it is told once and ends with 2."""
    from pipeline import safe
    from pipeline.executor import ground
    from pipeline.input import infiles
    from pipeline.wire import places

    folder = places.meeting_place(settings).folder
    for name in settings.files:
        infiles.identity(name, 0)
    safe.check(settings)
    ground.check(settings)
    if folder:
        places.claim_folder(folder)


def _worker(settings: Settings, screen: Screen) -> Callable[[], int]:
    from pipeline import assembly
    from pipeline.words.notices import Waiting

    def told(message: Message) -> None:
        """Who is missing is for sink and ventilator to say, once, and not for each worker."""
        if not isinstance(message, Waiting):
            screen.told(message)

    return lambda: assembly.work(settings, told)


def shares(settings: Settings) -> list[int]:
    """Slots of each worker: --jobs each; else the usable CPUs in equal parts, at least one each."""
    if settings.jobs is not None:
        return [settings.jobs] * settings.workers
    from pipeline.house.machine import usable_cpus

    each, rest = divmod(usable_cpus(), settings.workers)
    return [max(1, each + (number < rest)) for number in range(settings.workers)]
