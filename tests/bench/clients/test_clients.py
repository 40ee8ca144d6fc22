"""The bench of the clients: whose answers are refused."""

from __future__ import annotations

from bench.clients.__main__ import first_wrong


def test_every_client_must_give_the_items_of_the_package() -> None:
    expected = [[str(item) for item in range(20)]] * 2
    swapped = [*expected[0][:18], "19", "18"]
    assert first_wrong("go", expected, expected) is None
    assert first_wrong("go", [expected[0], swapped], expected) == 1
    assert first_wrong("onnxruntime", [swapped, [*expected[0][:18], "30", "31"]], expected) is None
    for wrong in ([*expected[0][:17], "30", "31", "32"], []):
        assert first_wrong("onnxruntime", [swapped, wrong], expected) == 1
