"""The load client in a process of its own, so that it shares only the machine with the measuring process."""

from __future__ import annotations

import multiprocessing
import time
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from typing import Any

from bench.serving.http_client import Client, Load, Outcome
from mtaw_fast.errors import MtawError

_HEAD_START = 0.3  # seconds between connecting and the first arrivals


class RunningLoad(AbstractContextManager["RunningLoad"]):
    """A running load: it is connected once this is entered; `result` waits for its end.

    began: time.monotonic() of due = 0, shortly after this is entered.
    """

    def __init__(self, load: Load) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, child_pipe = context.Pipe()
        self._process = context.Process(target=_drive, args=(child_pipe,), daemon=True)
        self._process.start()
        child_pipe.close()
        self._pipe.send(load)
        self.began: float = self._receive()

    def result(self) -> Outcome:
        """Return the load's outcome. Raises MtawError if the client failed."""
        return self._receive()

    def _receive(self) -> Any:
        try:
            received = self._pipe.recv()
        except EOFError:
            raise MtawError("the load's process ended early; its error is above") from None
        if isinstance(received, str):
            raise MtawError(f"the load failed: {received}")
        return received

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.terminate()
        self._process.join()


def _drive(pipe: Connection) -> None:
    try:
        load: Load = pipe.recv()
        client = Client(load)
        began = time.monotonic() + _HEAD_START
        pipe.send(began)
        pipe.send(client.run(began))
    except MtawError as error:
        pipe.send(str(error))
