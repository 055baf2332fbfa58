"""How amounts look to a person: bytes, times, counts, rates; and any text in one plain line.

Pure and small: the same number gives the same text. Never asks for the language of the terminal.
"""

from __future__ import annotations

MINUTE_SECONDS = 60
HOUR_SECONDS = 3600


def format_memory(size: int) -> str:
    """Bytes as 12 MB or 1.5 GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"  # noqa: PLR2004


def format_duration(duration: float) -> str:
    """Seconds as 0.5 s, or 1:02:03."""
    return f"{duration:.1f} s" if duration < MINUTE_SECONDS else format_clock(duration)


def format_count(number: int, noun: str) -> str:
    """`1 task`, `1,234 tasks`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_number(value: float) -> str:
    """Three digits or more of a positive number: 0.52, 19.2, 1,234."""
    return f"{value:,.{max(0, 3 - len(str(int(value))))}f}"


def format_clock(duration: float) -> str:
    """Seconds as 0:12 or 1:02:03."""
    whole = max(0, round(duration))
    hours, minutes = whole // HOUR_SECONDS, whole // MINUTE_SECONDS % MINUTE_SECONDS
    return f"{hours}:{minutes:02}:{whole % MINUTE_SECONDS:02}" if hours else f"{minutes}:{whole % MINUTE_SECONDS:02}"


def sanitize(text: str) -> str:
    """The text in one line of printable characters: no word from the wire moves the cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)
