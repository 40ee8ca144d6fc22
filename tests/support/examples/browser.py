"""A headless Chromium, driven over the WebDriver protocol by the standard library alone."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name for a reference to an element
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--window-size=900,760",
)  # fmt: skip


def missing() -> str | None:
    """Why there is no browser here, or None."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            return f"{program} is not installed: apt-get install chromium chromium-driver"
    return None


class Browser:
    """One window. Leave it by `close`."""

    def __init__(self, profile: Path, *flags: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._driver = subprocess.Popen(
            ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._base = f"http://127.0.0.1:{port}"
        self.wait(lambda: self._call("GET", "/status")["ready"], "chromedriver")
        options = {"args": [*_FLAGS, *flags, f"--user-data-dir={profile}"], "binary": shutil.which("chromium")}
        body = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        self._base += "/session/" + self._call("POST", "/session", body)["sessionId"]

    def open(self, url: str) -> None:
        """Load a page."""
        self._call("POST", "/url", {"url": url})

    def reload(self) -> None:
        """Load the page again as Shift+reload does: past its service worker and the browser's cache."""
        self._call("POST", "/goog/cdp/execute", {"cmd": "Page.reload", "params": {"ignoreCache": True}})

    def run(self, script: str) -> Any:
        """What JavaScript returns in the page."""
        return self._call("POST", "/execute/sync", {"script": script, "args": []})

    def type(self, selector: str, text: str) -> None:
        """Type into the element."""
        self._call("POST", f"/element/{self._find(selector)}/value", {"text": text})

    def click(self, selector: str) -> None:
        """Click on the element."""
        self._call("POST", f"/element/{self._find(selector)}/click", {})

    def screenshot(self, path: Path) -> None:
        """The window as PNG."""
        path.write_bytes(base64.b64decode(self._call("GET", "/screenshot")))

    def close(self) -> None:
        """End the browser."""
        try:
            self._call("DELETE", "")
        finally:
            self._driver.terminate()
            self._driver.wait(20)

    @staticmethod
    def wait(ready: Any, what: str, seconds: float = 60) -> None:
        """Until `ready` returns something true; errors count as not yet."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if ready():
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"{what} was not ready in {seconds:g} s")

    def _find(self, selector: str) -> str:
        return self._call("POST", "/element", {"using": "css selector", "value": selector})[_ELEMENT]

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(self._base + path, data, {"Content-Type": "application/json"}, method=method)) as answer:
            return json.load(answer)["value"]
