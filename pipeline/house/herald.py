"""The herald: speaks for a ventilator that has died for good, so that nobody waits for its goodbye.

It asks the sink for an end, as a person would, and says Bye in the ventilator's name behind it, on one connection. It
hears nothing, holds no lock, and leaves when both are said, or when no sink has taken them for a while.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pipeline.wire import calling
from pipeline.wire.places import meeting_place
from pipeline.wire.sockets import Sockets
from pipeline.words.errors import INCOMPLETE, OK
from pipeline.words.messages import Bye, Stop
from pipeline.words.station import VENTILATOR, Port

if TYPE_CHECKING:
    from pipeline.words.settings import Settings

WITHIN = 2.0
"""Seconds to find the sink."""
PAUSE = 0.01
"""Seconds between two looks for it: this lasts for a moment, once in a run that goes wrong."""


def announce(settings: Settings) -> int:
    """The run ends now, since its ventilator can't be replaced; an exit code: whether it could be said."""
    place, own = meeting_place(settings), Sockets()
    mouth = calling.results(own, place.results)
    try:
        # by the reason's name the sink knows that the end was asked for; the launcher has said the rest
        mouth.send(Port.RESULTS, Stop("now", "SIGTERM"))
        mouth.send(Port.RESULTS, Bye(VENTILATOR))
        deadline = time.monotonic() + WITHIN
        while (unsaid := _waits(mouth)) and time.monotonic() < deadline:
            time.sleep(PAUSE)
            mouth.receive()
        return INCOMPLETE if unsaid else OK
    finally:
        mouth.close()
        own.close()


def _waits(mouth: calling.Out) -> bool:
    """Whether something is still to be said: then it asks to be told when it can write, too."""
    return any(isinstance(file, tuple) for file in mouth.files())
