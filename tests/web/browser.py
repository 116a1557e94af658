"""Chromium without a window, by the DevTools protocol: what a page shows, says, and asks the network for."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytest.importorskip("websockets")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
STARTS, ANSWERS = 60.0, 60.0


class Page:
    """A tab. requests: the addresses that it asked for; said: errors and what stands on its console."""

    def __init__(self, socket: Any) -> None:
        self.socket, self.number = socket, 0
        self.requests: list[str] = []
        self.said: list[str] = []
        for part in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{part}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            told = json.loads(self.socket.recv(timeout=ANSWERS))
            if told.get("id") == self.number:
                assert "error" not in told, told
                return told["result"]
            self._note(told.get("method"), told.get("params"))

    def _note(self, method: str, parameters: Any) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"][:80])
        if method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.said.append(json.dumps(parameters)[:400])

    def open(self, file: Path, place: str = "") -> None:
        self.call("Page.navigate", url=f"{file.as_uri()}#{place}")

    def value(self, expression: str) -> Any:
        """What an expression is, waited for where it is promised."""
        how = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        found = self.call("Runtime.evaluate", expression=expression, **how)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression: str) -> Any:
        """Until an expression holds."""
        until = time.monotonic() + ANSWERS
        while time.monotonic() < until:
            if found := self.value(expression):
                return found
            time.sleep(0.05)
        seen = self.value("document.body.innerText")[:500]
        raise AssertionError(f"{expression} never held; on the page: {seen}; said: {self.said}")

    def looks(self, width: int, height: int, *, dark: bool = False) -> None:
        """The size of the window, and whether dark pages are preferred."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self) -> bytes:
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


@contextmanager
def opened() -> Iterator[Page]:
    """A tab of a browser of its own."""
    from websockets.sync.client import connect

    with tempfile.TemporaryDirectory() as folder:
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        browser = subprocess.Popen(
            [str(CHROMIUM), *flags, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            with connect(_tab(Path(folder) / "DevToolsActivePort"), max_size=None) as socket:
                yield Page(socket)
        finally:
            browser.terminate()
            browser.wait()
            time.sleep(0.2)  # its children write into the folder until they are gone


def _tab(port: Path) -> str:
    until = time.monotonic() + STARTS
    while time.monotonic() < until:
        if port.exists() and len(lines := port.read_text().splitlines()) == 2:
            with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json/list") as answer:
                tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
            if tabs:
                return str(tabs[0]["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise AssertionError("Chromium did not start")
