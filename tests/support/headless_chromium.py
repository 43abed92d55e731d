"""A real Chromium without a window, driven through its own DevTools protocol; it never reaches a network."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)"
)

_KEYS = {"Escape": 27, "Enter": 13}


class Page:
    """One tab. complaints: errors of its console and of its scripts. requests: what it asked a network or disk for."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._number = 0
        self._session: str | None = None
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Network", "Page"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol; what happened on the page meanwhile is noted."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while (told := json.loads(self._socket.recv(timeout=120))).get("id") != self._number:
            self._note(told.get("method", ""), told.get("params", {}))
        assert "error" not in told, told
        result: dict[str, Any] = told["result"]
        return result

    def show(self, width: int, height: int = 900, scheme: str = "light") -> None:
        """Set the size of the window in pixels and whether it is `light` or `dark`."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, path: Path, fragment: str = "") -> None:
        """Load a file anew and wait until its scripts have run."""
        # A change of the fragment alone would not load the page again.
        self.call("Page.navigate", url="about:blank")
        self.wait("location.href === 'about:blank'")
        self.requests.clear()
        self.call("Page.navigate", url=path.as_uri() + fragment)
        self.wait("location.protocol === 'file:' && document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page. A script that throws fails the test."""
        told = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, (script, told["exceptionDetails"])
        return told["result"].get("value")

    def wait(self, condition: str, seconds: float = 60) -> None:
        """Until an expression is true in the page."""
        end = time.monotonic() + seconds
        while not self.run(condition):
            assert time.monotonic() < end, f"never true: {condition}; {self.complaints}"
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """A key as a person presses it; of several characters only Escape and Enter."""
        told: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": _KEYS.get(key, ord(key[0].upper()))}
        if len(key) == 1:
            told["text"] = key
        self.call("Input.dispatchKeyEvent", type="keyDown", **told)
        self.call("Input.dispatchKeyEvent", type="keyUp", **{**told, "text": ""})

    def picture(self, path: Path, whole: bool = False) -> None:
        """A PNG of the window, or of the whole page."""
        told = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(told["data"]))

    def _note(self, method: str, told: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(told["exceptionDetails"])[:2000])
        if method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(told["args"])[:2000])
        if method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.complaints.append(told["entry"]["text"])
        if method == "Network.requestWillBeSent":
            url = told["request"]["url"]
            # Pictures within the page are reported as requests, too.
            if not url.startswith(("data:", "about:")):
                self.requests.append(url)


@contextmanager
def chromium_page(folder: Path) -> Iterator[Page]:
    """A fresh browser with its profile in a folder, and a tab of it."""
    from websockets.sync.client import connect

    assert CHROMIUM
    log = folder / "chromium.log"
    with log.open("w") as errors:
        browser = subprocess.Popen(
            [
                *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
                *("--disable-background-networking", "--no-first-run", "--host-resolver-rules=MAP * 0.0.0.0"),
                *("--remote-debugging-port=0", f"--user-data-dir={folder / 'profile'}", "about:blank"),
            ],
            stderr=errors,
            stdout=subprocess.DEVNULL,
        )
    try:
        with connect(_address(log, browser), max_size=None, proxy=None) as socket:
            yield Page(socket)
    finally:
        browser.terminate()
        try:
            browser.wait(20)
        except subprocess.TimeoutExpired:
            browser.kill()
            browser.wait()


def _address(log: Path, browser: subprocess.Popen[bytes]) -> str:
    end = time.monotonic() + 60
    while time.monotonic() < end and browser.poll() is None:
        if found := re.search(r"DevTools listening on (ws://\S+)", log.read_text(errors="replace")):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(f"chromium did not start: {log.read_text(errors='replace')[-2000:]}")
