"""A short run of the fuzzing of bundles: `tests.fuzz.bundles` has the long one."""

from __future__ import annotations

import pytest

from tests.fuzz.bundles import main

_MORE = pytest.mark.long(caught="here, by the first 250 cases")


@pytest.mark.parametrize("first", [0, *(pytest.param(first, marks=_MORE) for first in (250, 500, 750))])
def test_damaged_bundles_are_refused_or_answer(first: int, capfd: pytest.CaptureFixture[str]) -> None:
    status = main(["--first", str(first), "--cases", "250"])
    output = capfd.readouterr()
    assert status == 0, output.out + output.err
    _, loaded, refused = (int(word) for word in output.out.split() if word.isdigit())
    assert loaded > 25
    assert refused > 25


def test_a_failure_is_told(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "none")  # the process that runs the cases dies at once
    assert main(["--cases", "1"]) == 1
    assert "failed, exit status 1" in capfd.readouterr().out
