"""`replace` for Structs, with the checks of mypy.

mypy knows which fields `dataclasses.replace` accepts, but not those of msgspec's function. A module of its own, since
all other modules may import it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import replace
else:
    from msgspec.structs import replace

__all__ = ["replace"]
