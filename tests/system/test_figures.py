"""Numbers for people: whole ones are written out."""

from __future__ import annotations

import pytest

from mtaw_fast.system.figures import figure


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0, 3, "0"), (0.01234, 3, "0.0123"), (12.34, 3, "12.3"), (-99.96, 3, "-100"), (999.6, 3, "1,000"),
        (80_260.0, 3, "80,260"), (80_260.0, 4, "80,260"), (-1_234_567.8, 3, "-1,234,568"),
        (20_231_115.25, 11, "20231115.25"), (1_000_000.0, 6, "1,000,000"), (2.5, 6, "2.5"),
    ],
)  # fmt: skip
def test_no_count_is_a_power_of_ten(value: float, digits: int, text: str) -> None:
    assert figure(value, digits) == text
