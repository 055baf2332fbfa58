"""What one look at the machine has found: the word between those who look and the door.

Promises: whatever is not `ok` says in which case it bites, and what to do. Never holds more than one fact.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

CheckState = Literal["ok", "warn", "bad"]
GIB, MIB = 1 << 30, 1 << 20


class CheckResult(Struct, frozen=True):
    """`warn`: it bites in the case that is told; `bad`: something cannot work. `fix` is empty where all is well."""

    name: str
    state: CheckState
    detail: str
    fix: str = ""


def format_bytes(amount: float) -> str:
    """Bytes, as a person writes them."""
    return f"{amount / GIB:,.1f} GiB" if amount >= GIB else f"{amount / MIB:,.0f} MiB"
