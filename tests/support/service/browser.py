"""A headless Chromium controlled over a pipe: it loads pages, presses keys and reads the result."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
_PATIENCE = 60.0  # seconds to wait for a state of the page; machines are busy
_KEYS = {"Enter": 13, "Escape": 27, "ArrowUp": 38, "ArrowDown": 40, "Tab": 9, "Home": 36, "End": 35}


def find_browser() -> str | None:
    """Return the browser's command; None if none is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page in a browser of its own, by the DevTools protocol. errors: messages of its console."""

    def __init__(self, command: str, profile: Path, width: int = 1200, height: int = 900) -> None:
        from_us, self._to = os.pipe()
        self._from, to_us = os.pipe()
        arguments = [
            command, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--remote-debugging-pipe", f"--user-data-dir={profile}", f"--window-size={width},{height}", "about:blank",
        ]  # fmt: skip
        # Chromium reads its descriptor 3 and writes to 4.
        script = f'exec 3<&{from_us} 4>&{to_us}; exec "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", *arguments], pass_fds=(from_us, to_us), stderr=subprocess.DEVNULL
        )
        os.close(from_us)
        os.close(to_us)
        self._rest, self._number, self._session = b"", 0, None
        self.errors: list[str] = []
        (target, *_) = [info for info in self.do("Target.getTargets")["targetInfos"] if info["type"] == "page"]
        attached = self.do("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.do(f"{domain}.enable")

    def do(self, method: str, **parameters: Any) -> Any:
        """Run a command of the protocol; return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            if answer.get("method") == "Log.entryAdded":
                self.errors.append(answer["params"]["entry"]["text"])
            if answer.get("method") == "Runtime.exceptionThrown":
                self.errors.append(str(answer["params"]["exceptionDetails"]))

    def _next(self) -> Any:
        while b"\0" not in self._rest:
            part = os.read(self._from, 1 << 16)
            assert part, "the browser is gone"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def go(self, address: str) -> None:
        """Load a page."""
        self.do("Page.navigate", url=address)

    def ask(self, expression: str) -> Any:
        """Return the value of a JavaScript expression on the page."""
        result = self.do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, expression: str) -> Any:
        """Wait until an expression is true; return its value."""
        until = time.monotonic() + _PATIENCE
        while not (value := self.ask(expression)):
            assert time.monotonic() < until, (expression, self.errors, self.ask("document.body.innerText"))
            time.sleep(0.03)
        return value

    def press(self, key: str, *, ctrl: bool = False) -> None:
        """Press and release a key."""
        code = _KEYS.get(key, ord(key.upper()) if len(key) == 1 else 0)
        event = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 2 if ctrl else 0}
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        self.do("Input.dispatchKeyEvent", type="keyDown", **event, **({"text": text} if text and not ctrl else {}))
        self.do("Input.dispatchKeyEvent", type="keyUp", **event)

    def type(self, text: str) -> None:
        """Type a text into the focused element."""
        for character in text:
            self.press(character)

    def shot(self, path: Path) -> None:
        """Save a picture of the page."""
        path.write_bytes(base64.b64decode(self.do("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)
