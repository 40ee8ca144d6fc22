"""Numbers for people."""

from __future__ import annotations


def figure(value: float, digits: int = 3) -> str:
    """Return a number with so many significant digits, and whole ones in full: 0.0123, 80,260, not 8.03e+04."""
    return f"{value:.{digits}g}" if abs(value) < 10 ** (digits - 1) else f"{value:,.0f}"
