"""A line of real processes that is struck: at one word, by a failpoint, or by a storm of a seed's faults.

Whoever dies of our hand is started again with the same words, as a person would. What comes of it is the oracle's to
judge; a line that does not end in time has broken a promise, too.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from oracle import LETTERS, OUTPUT, TASKS, greedy, judged, listening
from orphans import until
from stage import HERE, Player, Stage

from pipeline.failpoints import VARIABLE

LIVENESS = 1.0
BEAT = ("--interval", "0.1", "--liveness", LIVENESS)
WORK = ("work", "-j", "2", "--call", f"{HERE / 'deeds.py'}:done")
LINE: dict[str, tuple[object, ...]] = {
    "sink": ("sink", "-v", "-o", OUTPUT, "--failed", LETTERS, *BEAT),
    "ventilator": ("ventilate", "-v", *BEAT, TASKS),
    "worker-1": (*WORK[:1], "-v", *WORK[1:]),
    "worker-2": (*WORK[:1], "-v", *WORK[1:]),
}
RUN = ("run", "-v", "-w", "2", "-j", "2", "-o", OUTPUT, "--failed", LETTERS, *BEAT, "-a", TASKS, *WORK[3:])
ENOUGH = LIVENESS + 15.0
"""Seconds after the last fault in which a run ends, whatever happened."""
FINE = {0, 1}
SINK = True
"""Whether a sink that was killed is started again and goes on: only with a journal."""


def tasks(folder: Path, count: int, seconds: float, gated: int = 0) -> None:
    """Write so many tasks of that length, of which every tenth fails, and some that wait for the gate."""
    hows = ["fail" if number % 10 == 9 else f"{seconds}" for number in range(count)] + ["gate"] * gated
    folder.joinpath(TASKS).write_text("".join(f"{number} {how}\n" for number, how in enumerate(hows)))


def code(player: Player) -> int | None:
    """Its exit code if it has ended."""
    return player._process.poll()


class Cast:
    """Who plays in a line of three commands, and who has fallen."""

    def __init__(self, stage: Stage, words: Mapping[str, Sequence[object]]) -> None:
        self._stage, self._words = stage, words
        self.playing: dict[str, Player] = {}
        self.late: set[str] = set()
        """Who was started again, and may have come too late for the run."""
        self.losses: list[float] = []
        self.doomed: Player | None = None
        """Who will be struck, maybe only when all is over."""
        self.greedy: set[str] = set()
        """Who took more memory or descriptors than a small line needs."""

    def enter(self, part: str, **environment: str) -> None:
        """Start who plays this part."""
        self.playing[part] = self._stage.start(*self._words[part], **environment)

    def again(self, part: str) -> None:
        """The one who played it has died; another comes."""
        if part.startswith("worker"):
            self.losses.append(time.monotonic())
        self.late.add(part)
        self.enter(part)

    def is_over(self) -> bool:
        """Whether the run is finished, as far as those tell who were there."""
        ended = {code(self.playing[part]) for part in ("sink", "ventilator") if part not in self.late}
        return bool(ended & FINE) or code(self.playing["sink"]) in FINE

    def see_through(self) -> list[str]:
        """Wait for the end; what went wrong."""
        players = self.playing
        try:
            until(self._is_done, ENOUGH)
        except AssertionError:
            here = {part: code(player) for part, player in players.items()}
            return [f"the line hangs: {here}", *(player.err for player in players.values())]
        return [
            *sorted(self.greedy),
            *self._wrong_ends(),
        ]

    def _is_done(self) -> bool:
        self.greedy |= greedy(self._stage.left())
        return all(code(player) is not None or self._waits(player) for player in self.playing.values())

    def _wrong_ends(self) -> list[str]:
        return [
            f"{part} ended with {player.code()}:\n{player.err}"
            for part, player in self.playing.items()
            if not _dismissed(player)
            and player is not self.doomed
            and player.code() != (0 if part.startswith("worker") else 1)
        ]

    def _waits(self, player: Player) -> bool:
        """Whether it came too late for a run that is finished, and waits for another, as it says."""
        said = player.err.splitlines()
        return self.is_over() and bool(said) and "start one with" in said[-1]


def _dismissed(player: Player) -> bool:
    """Whether it still lived, and does no more."""
    if code(player) is not None:
        return False
    player.send(signal.SIGTERM)
    player.send(signal.SIGINT)
    player.code()
    return True


def recorded(*, run: bool = False) -> list[tuple[str, int]]:
    """All points and hits that a small line reaches when nobody is struck; or `pipe run`."""
    with Stage() as stage:
        note = stage.folder.parent / "points"
        tasks(stage.folder, 40, 0.01)
        plan = {VARIABLE: f"record:{note}"}
        if run:
            stage.start(*RUN, **plan).code()
        else:
            players = [stage.start(*words, **plan) for words in LINE.values()]
            for player in players:
                player.code()
        pairs = {(point, int(hit)) for point, hit in (line.split() for line in note.read_text().splitlines())}
        return sorted(pairs)


def struck(point: str, hit: int, act: str = "kill") -> list[str]:
    """The broken promises of a line of three commands, one of whom is struck there."""
    role = point.partition(".")[0]
    victim = "worker-1" if role == "worker" else role
    with Stage() as stage:
        tasks(stage.folder, 40, 0.01)
        cast = Cast(stage, LINE)
        with listening(f"ipc://{stage.runtime}/pipe/default/control", stage.folder):
            for part in LINE:
                cast.enter(part, **({VARIABLE: f"{point}:{hit}={act}"} if part == victim else {}))
            fallen = cast.doomed = cast.playing[victim]
            try:
                until(lambda: code(fallen) is not None or cast.is_over(), ENOUGH)
            except AssertionError:
                return [f"{point}:{hit} hangs before it is struck", *(player.err for player in cast.playing.values())]
            if code(fallen) not in {*FINE, None}:
                cast.again(victim)
            broken = cast.see_through()
        return broken + verdict(stage, cast.losses)


def struck_run(point: str, hit: int, act: str = "kill") -> list[str]:
    """The broken promises of a `pipe run`, of whose processes one is struck there, and replaced by the launcher."""
    with Stage() as stage:
        tasks(stage.folder, 40, 0.01)
        mark = stage.folder.parent / "struck"
        run = stage.start(*RUN, **{VARIABLE: f"{point}:{hit}={act},once:{mark}"})
        try:
            ended = run.code(2 * ENOUGH)
        except AssertionError as hangs:
            return [str(hangs)]
        losses = [time.monotonic()] if mark.exists() and point.startswith("worker") else []
        broken = [f"pipe run ended with {ended}:\n{run.err}"] if ended != 1 else []
        return broken + verdict(stage, losses)


def verdict(stage: Stage, losses: Sequence[float]) -> list[str]:
    """What the oracle says, and whether the stage is empty."""
    broken = judged(stage.folder, losses)
    try:
        stage.is_empty()
    except AssertionError as left:
        broken.append(f"somebody or something is left: {left} {stage.left()}")
    return broken
