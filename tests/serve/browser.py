"""A headless Chromium, driven over its own protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Tab:
    """One page."""

    def __init__(self, client: Any) -> None:
        self.client, self.last = client, 0
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> Any:
        """Have something done; what goes wrong on the page meanwhile is a complaint."""
        self.last += 1
        self.client.send(json.dumps({"id": self.last, "method": method, "params": parameters}))
        while True:
            said = json.loads(self.client.recv(timeout=30))
            if said.get("id") == self.last:
                assert "error" not in said, said
                return said["result"]
            if said["method"] == "Runtime.exceptionThrown":
                self.complaints.append(said["params"]["exceptionDetails"]["text"])
            if said["method"] == "Log.entryAdded" and said["params"]["entry"]["level"] == "error":
                self.complaints.append(said["params"]["entry"]["text"])

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript gives."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 20) -> None:
        """Until it holds."""
        ends = time.monotonic() + seconds
        while not self.value(expression):
            assert time.monotonic() < ends, expression
            time.sleep(0.05)

    def picture(self, path: Path) -> None:
        """Save what is seen."""
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))


@contextmanager
def tab(url: str, folder: Path) -> Iterator[Tab]:
    """A page of a browser that is there for it alone. folder: for its profile."""
    assert CHROMIUM is not None
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--remote-debugging-port=0",
        "--window-size=900,900",
    ]
    command = [CHROMIUM, *flags, f"--user-data-dir={folder}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        try:
            told = folder / "DevToolsActivePort"
            ends = time.monotonic() + 60
            while not told.exists() or len(told.read_text().split()) < 2:
                assert time.monotonic() < ends, "the browser did not start"
                time.sleep(0.05)
            port = told.read_text().split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=20) as answer:
                (page,) = [entry for entry in json.load(answer) if entry["type"] == "page"]
            with connect(page["webSocketDebuggerUrl"], max_size=None) as client:
                found = Tab(client)
                found.ask("Page.navigate", url=url)
                found.wait("document.readyState === 'complete' && location.href !== 'about:blank'")
                yield found
        finally:
            browser.terminate()
