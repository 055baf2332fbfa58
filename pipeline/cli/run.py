"""`pipe run`: ventilator, workers and sink forked on this machine.

Promises: what all children need is imported once, before the fork. Never opens a socket or a context itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.cli import sink, ventilate
from pipeline.cli.exit_codes import make_guarded
from pipeline.config.settings import Settings
from pipeline.model.errors import TASKS_FAILED
from pipeline.model.state_machine import Message
from pipeline.model.structs import replace

if TYPE_CHECKING:
    from pipeline.cli.terminal import UserConsole
    from pipeline.runtime.launcher import ProcessSpec

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


def main(settings: Settings, console: UserConsole) -> int:
    """Launch the stations; the run's exit code."""
    from pipeline.cli import resume
    from pipeline.runtime import run_files, stations
    from pipeline.runtime.launcher import launch
    from pipeline.transport import endpoints

    settings = run_files.disable_outputs(settings)
    _check_settings(settings)
    if not resume.check_resume(settings, console.print_message):
        return stations.finalize_run(settings)
    ventilate.prompt_for_tasks(settings, console)
    console.has_launcher = True
    try:
        code = launch(process_specs(settings, console), console.print_message, verbose=settings.verbose > 0)
    finally:
        endpoints.remove_run_leftovers(endpoints.resolve_endpoints(settings).folder)
    if code > TASKS_FAILED:
        resume.suggest_resume(settings, console.print_message)
    return code


def process_specs(settings: Settings, console: UserConsole) -> list[ProcessSpec]:
    """Who takes part: the sink first, so that nobody has to wait for it."""
    from pipeline.runtime import run_files, stations
    from pipeline.runtime.launcher import ProcessSpec

    again = replace(settings, resume_failed=False)  # what has failed is done again once, not by each new sink
    feed = replace(settings, slots=sum(slots_per_worker(settings)))
    read = make_guarded(lambda: stations.run_ventilator(feed, console.notify))
    crew = [
        ProcessSpec(
            "sink",
            make_guarded(lambda: sink.run_sink_with_display(settings, console)),
            make_guarded(lambda: sink.run_sink_with_display(again, console))
            if run_files.journal_path(settings)
            else None,
        ),
        ProcessSpec("ventilator", read, _rewinding_stdin(read) if run_files.can_reread_input(settings) else None),
    ]
    for number, jobs in enumerate(slots_per_worker(settings), start=1):
        work = make_guarded(_make_worker(replace(settings, jobs=jobs), console))
        crew.append(ProcessSpec(f"worker-{number}", work, work))
    return crew


def _rewinding_stdin(run: Callable[[], int]) -> Callable[[], int]:
    """The same where the one before has read from stdin, whose offset it has moved for all of us."""
    from pipeline.runtime import run_files

    if not run_files.is_regular(0):
        return run
    start = os.lseek(0, 0, os.SEEK_CUR)

    def rewind_and_run() -> int:
        os.lseek(0, start, os.SEEK_SET)
        return run()

    return rewind_and_run


def _check_settings(settings: Settings) -> None:
    """Raise UsageError for what each station would complain of: told here, it is told once and ends with 2."""
    from pipeline.executor import factory
    from pipeline.input import files
    from pipeline.runtime import run_files
    from pipeline.transport import endpoints

    folder = endpoints.resolve_endpoints(settings).folder
    for name in settings.files:
        files.file_identity(name, 0)
    run_files.check_paths(settings)
    factory.validate_cwd_and_env(settings)
    if folder:
        endpoints.claim_folder(folder)


def _make_worker(settings: Settings, console: UserConsole) -> Callable[[], int]:
    from pipeline.model.events import Waiting
    from pipeline.runtime import stations

    def notify(message: Message) -> None:
        """Who is missing is for sink and ventilator to say, once, and not for each worker."""
        if not isinstance(message, Waiting):
            console.notify(message)

    return lambda: stations.run_worker(settings, notify)


def slots_per_worker(settings: Settings) -> list[int]:
    """Slots of each worker: --jobs each; else the usable CPUs in equal parts, at least one each."""
    if settings.jobs is not None:
        return [settings.jobs] * settings.workers
    from pipeline.system.resources import usable_cpus

    each, rest = divmod(usable_cpus(), settings.workers)
    return [max(1, each + (number < rest)) for number in range(settings.workers)]
