"""Format a table as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return the heads and rows in aligned columns, numbers to the right; a float gets one decimal."""
    body = [[f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    lines = [list(heads), *body]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    right = [all(_is_number(line[column]) for line in body) for column in range(len(heads))]
    return "\n".join(
        "  ".join(
            f"{cell:{'>' if to_right else '<'}{width}}"
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).lstrip("-").isdigit() or cell == "-"
