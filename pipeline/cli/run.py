"""`pipe run`: ventilator, workers and sink as forked processes on this machine.

Modules that all of them need are imported once, before the fork. The parent has no socket and no ZeroMQ context.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.cli import sink, ventilate
from pipeline.cli.exit_codes import make_guarded
from pipeline.config.settings import Settings
from pipeline.model.errors import TASKS_FAILED, USAGE
from pipeline.model.state_machine import Message
from pipeline.model.structs import replace

if TYPE_CHECKING:
    from pipeline.cli.terminal import UserConsole
    from pipeline.runtime.launcher import ProcessSpec

HELP = """Run COMMAND for each task, on this machine.

One word of COMMAND is a shell line, several are an argument list. {} is the task; without {} it is appended.
Options end at the first word of COMMAND. Tasks are the lines of stdin or of files (-a), or the words after `:::`.
With -o FILE there is a journal beside it, FILE.journal: after a kill or a crash, --resume runs the unfinished tasks.

\b
Examples:
  seq 100 | pipe run 'sleep 0.{}; echo slept {}'
  pipe run gzip -k {} ::: *.log
  pipe run -k -j 4 'curl -s {}' < urls.txt > pages.txt
  pipe run -a words.txt -o lengths.txt --call builtins:len
  find . -type f -print0 | pipe run -0 sha256sum
  pipe run -a urls.txt -o pages.txt --retries 3 --timeout 30s 'curl -sf {}'
  pipe run -a urls.txt -o pages.txt --resume 'curl -sf {}'   after a kill or a power cut
"""


def main(settings: Settings, console: UserConsole) -> int:
    """Run all stations, and return the run's exit code."""
    from pipeline.cli import resume
    from pipeline.runtime import run_files, stations
    from pipeline.runtime.launcher import launch
    from pipeline.transport import endpoints

    settings = run_files.disable_outputs(settings)
    _check_settings(settings)
    if not resume.check_resume(settings, console.print_message):
        return stations.finalize_run(settings)
    if settings.verbose and (choice := endpoints.describe_choice()):
        console.print_message(choice)
    ventilate.prompt_for_tasks(settings, console)
    console.has_launcher = True
    try:
        code = launch(process_specs(settings, console), console.print_message, verbose=settings.verbose > 0)
    finally:
        endpoints.remove_run_leftovers(endpoints.resolve_endpoints(settings).folder)
    if code > TASKS_FAILED and code != USAGE:  # the same command would be rejected again
        resume.suggest_resume(settings, console.print_message)
    return code


def process_specs(settings: Settings, console: UserConsole) -> list[ProcessSpec]:
    """Return the processes of the run: the sink first, since the others wait for it."""
    from pipeline.runtime import run_files, stations
    from pipeline.runtime.launcher import ProcessSpec

    restart_settings = replace(settings, resume_failed=False)  # a new sink does not run failed tasks once more
    run_sink = make_guarded(lambda: sink.run_sink_with_display(settings, console))
    restart_sink = make_guarded(lambda: sink.run_sink_with_display(restart_settings, console, is_replacement=True))
    ventilator_settings = replace(settings, slots=sum(slots_per_worker(settings)))
    run_ventilator = make_guarded(lambda: stations.run_ventilator(ventilator_settings, console.notify))
    restart_ventilator = _rewinding_stdin(run_ventilator) if run_files.can_reread_input(settings) else None
    specs = [
        ProcessSpec("sink", run_sink, restart_sink if run_files.journal_path(settings) else None),
        ProcessSpec("ventilator", run_ventilator, restart_ventilator),
    ]
    for number, jobs in enumerate(slots_per_worker(settings), start=1):
        run_worker = make_guarded(_make_worker(replace(settings, jobs=jobs), console))
        specs.append(ProcessSpec(f"worker-{number}", run_worker, run_worker, settings.keep_background))
    return specs


def _rewinding_stdin(run: Callable[[], int]) -> Callable[[], int]:
    """Return `run` with stdin at its present offset, which an earlier ventilator moves for all processes."""
    from pipeline.runtime import run_files

    if not run_files.is_regular(0):
        return run
    start = os.lseek(0, 0, os.SEEK_CUR)

    def rewind_and_run() -> int:
        os.lseek(0, start, os.SEEK_SET)
        return run()

    return rewind_and_run


def _check_settings(settings: Settings) -> None:
    """Raise UsageError for what each station would reject: here it is reported once, with exit code 2."""
    from pipeline.executor import factory
    from pipeline.input import files
    from pipeline.runtime import file_conflicts, run_files
    from pipeline.transport import endpoints

    folder = endpoints.resolve_endpoints(settings).folder
    for name in settings.files:
        files.file_identity(name, 0)
    run_files.check_paths(settings)
    file_conflicts.check_conflicts(file_conflicts.input_files(settings), file_conflicts.output_files(settings))
    factory.validate_cwd_and_env(settings)
    if folder:
        endpoints.claim_folder(folder)


def _make_worker(settings: Settings, console: UserConsole) -> Callable[[], int]:
    from pipeline.model.events import Waiting
    from pipeline.runtime import stations

    def notify(message: Message) -> None:
        # sink and ventilator report a missing peer once, so each worker need not
        if not isinstance(message, Waiting):
            console.notify(message)

    return lambda: stations.run_worker(settings, notify)


def slots_per_worker(settings: Settings) -> list[int]:
    """Return the slots of each worker: --jobs, or an equal part of the usable CPUs, at least one."""
    if settings.jobs is not None:
        return [settings.jobs] * settings.workers
    from pipeline.system.resources import usable_cpus

    slots, rest = divmod(usable_cpus(), settings.workers)
    return [max(1, slots + (number < rest)) for number in range(settings.workers)]
