"""Partitions: a worker in a network namespace of its own, whose packets vanish silently, one way or both.

What vanishes is sent to a neighbour that is not there, so nobody is told, and connections stay half-open. Needs root
and `ip netns`; `missing` says why it can't be done here.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Self

from chaos import BEAT, LIVENESS, WORK, Cast, tasks, verdict
from oracle import GATE, OUTPUT, TASKS, listening
from stage import Stage
from storm import PORTS, free_ports

NOBODY = "02:00:00:00:00:01"


def missing() -> str:
    """Why there can be no partitions here; empty if there can."""
    if not shutil.which("ip"):
        return "there is no `ip`"
    if os.getuid():
        return "only root may make network namespaces"
    try:
        with Far():
            return ""
    except subprocess.CalledProcessError as error:
        return f"{' '.join(error.cmd)}: {error.stderr.decode().strip()}"


class Far:
    """A namespace joined with this one by one link. `here` and `there` are the addresses of its ends."""

    def __init__(self) -> None:
        pid = os.getpid()
        self.name = f"pipe{pid}"
        network = f"10.{200 + (pid >> 14) % 50}.{(pid >> 6) % 256}"
        self.here, self.there = (f"{network}.{pid % 64 * 4 + host}" for host in (1, 2))

    def __enter__(self) -> Self:
        near, far = f"{self.name}a", f"{self.name}b"
        _ip("netns", "add", self.name)
        try:
            _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", self.name)
            _ip("addr", "add", f"{self.here}/30", "dev", near)
            _ip("link", "set", near, "up")
            _ip("-n", self.name, "addr", "add", f"{self.there}/30", "dev", far)
            for device in ("lo", far):
                _ip("-n", self.name, "link", "set", device, "up")
        except subprocess.CalledProcessError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """The link goes with its end."""
        _ip("netns", "del", self.name)

    @contextmanager
    def cut(self, way: str) -> Iterator[None]:
        """What is sent `up` (from there), `down` or both ways vanishes meanwhile."""
        ends = {"down": ((), self.there, f"{self.name}a"), "up": (("-n", self.name), self.here, f"{self.name}b")}
        chosen = [end for name, end in ends.items() if name in way or way == "both"]
        for where, address, device in chosen:
            _ip(*where, "neigh", "replace", address, "lladdr", NOBODY, "nud", "permanent", "dev", device)
        try:
            yield
        finally:
            for where, address, device in chosen:
                _ip(*where, "neigh", "del", address, "dev", device)


class Split(Stage):
    """A stage of which a part is far away."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def words(self, *words: object) -> list[str]:
        """The argv; `far` goes before what is to run there."""
        if words[0] == "far":
            return ["ip", "netns", "exec", self._name, *super().words(*words[1:])]
        return super().words(*words)


def parted(seed: int) -> list[str]:
    """The broken promises of a line of which one worker is cut off, for a while and again."""
    rng = random.Random(seed)
    with Far() as far, Split(far.name) as stage, ExitStack() as stack:
        tasks(stage.folder, 200, 0.02, gated=2)
        at = {port: f"tcp://{far.here}:{number}" for port, number in zip(PORTS, free_ports(), strict=True)}
        ends = ("--insecure", "--desk", at["desk"], "--control-at", at["control"])
        work = ("-v", *ends, *WORK[1:])
        low = 20000 + os.getpid() * 7 % 9000
        cast = Cast(stage, {
            "sink": ("sink", "-v", "-o", OUTPUT, *BEAT, *ends, "--results-at", at["results"]),
            "ventilator": ("ventilate", "-v", *BEAT, *ends, "--results-at", at["results"],
                           "--lane-ports", f"{low}-{low + 40}", TASKS),
            "worker-1": ("far", "work", *work),
            "worker-2": ("work", *work),
        })  # fmt: skip
        stack.enter_context(listening(at["control"], stage.folder))
        for part in ("sink", "ventilator", "worker-1", "worker-2"):
            cast.enter(part)
        for _ in range(rng.randint(1, 3)):
            time.sleep(rng.uniform(0.3, 1))
            with far.cut(rng.choice(("up", "down", "both"))):
                cast.losses += [float("-inf")]
                time.sleep(rng.uniform(0, 3) * LIVENESS)
        (stage.folder / GATE).touch()
        broken = cast.see_through()
        return broken + verdict(stage, cast.losses)


def _ip(*words: str) -> None:
    with suppress(FileNotFoundError):
        subprocess.run(["ip", *words], check=True, capture_output=True)
