"""`pipe run`: ventilator, workers and sink forked on this machine.

Promises: what all children need is imported once, before the fork. Never opens a socket or a context itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.cli import sink
from pipeline.cli.ends import guarded
from pipeline.settings import Settings
from pipeline.station import Message

if TYPE_CHECKING:
    from pipeline.cli.screen import Screen

HELP = """Run COMMAND for each task, on this machine.

One COMMAND word is a shell line, several are an argv without a shell. {} is the task; without {} it is appended.
Options end at the first word of COMMAND. Tasks are the lines of stdin, of files (-a) or the words after `:::`.

\b
Examples:
  seq 100 | pipe run 'sleep 0.{}; echo slept {}'
  pipe run gzip -k {} ::: *.log
  pipe run -k -j 4 'curl -s {}' < urls.txt > pages.txt
  pipe run -a words.txt -o lengths.txt --call builtins:len
  find . -type f -print0 | pipe run -0 sha256sum
"""


def main(settings: Settings, screen: Screen) -> int:
    """Launch the stations; the run's exit code."""
    from pipeline import assembly, places
    from pipeline.launcher import Post, launch

    _check(settings)
    screen.launched = True
    posts = [
        Post("sink", guarded(lambda: sink.main(settings, screen)), restart=False),
        Post("ventilator", guarded(lambda: assembly.ventilate(settings, screen.told)), restart=False),
    ]
    for number, jobs in enumerate(shares(settings), start=1):
        work = replace(settings, jobs=jobs)
        posts.append(Post(f"worker-{number}", guarded(_worker(work, screen)), restart=True))
    try:
        return launch(posts, screen.say, verbose=settings.verbose > 0)
    finally:
        places.tidy(places.meeting_place(settings).folder)


def _check(settings: Settings) -> None:
    """Raise UsageError for what each station would complain of: told here, it is told once and ends with 2."""
    from pipeline import output, places, source

    folder = places.meeting_place(settings).folder
    for name in settings.files:
        source.identity(name, 0)
    if settings.output:
        output.check(settings.output)
    if folder:
        places.claim_folder(folder)


def _worker(settings: Settings, screen: Screen) -> Callable[[], int]:
    from pipeline import assembly
    from pipeline.notices import Missing, Present

    def told(message: Message) -> None:
        """Who is missing is for sink and ventilator to say, once, and not for each worker."""
        if not isinstance(message, Missing | Present):
            screen.told(message)

    return lambda: assembly.work(settings, told)


def shares(settings: Settings) -> list[int]:
    """Slots of each worker: --jobs each; else the usable CPUs in equal parts, at least one each."""
    if settings.jobs is not None:
        return [settings.jobs] * settings.workers
    from pipeline.machine import usable_cpus

    each, rest = divmod(usable_cpus(), settings.workers)
    return [max(1, each + (number < rest)) for number in range(settings.workers)]
