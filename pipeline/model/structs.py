"""`replace` for Structs, checked: mypy knows what `dataclasses.replace` may change, and nothing of msgspec's.

A module of its own, since all others may import it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import replace
else:
    from msgspec.structs import replace

__all__ = ["replace"]
