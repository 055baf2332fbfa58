"""Human-readable amounts."""

from __future__ import annotations

from pipeline.cli import messages


def test_format_number_has_three_digits() -> None:
    assert [messages.format_number(value) for value in (0.0, 0.519, 9.99, 19.23, 99.94, 100.4, 1234.5)] == [
        "0.00", "0.52", "9.99", "19.2", "99.9", "100", "1,234",
    ]  # fmt: skip
