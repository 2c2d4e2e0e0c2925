"""A headless Chromium, driven through its pipe: for measuring the pages and for pictures of them.

Rules of this file:

* No port and no library: Chromium reads commands from one pipe and answers on another
  (`--remote-debugging-pipe`), one JSON object each, with a zero byte behind it.
* Every wait has an end, and what the page wrote to its console is kept: `Page.complaints`.
* The process and its profile are gone when the block is left, whatever happened in it.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import attrs

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ANSWER_S: Final = 30.0
"""How long a command may take."""
REMOVED_S: Final = 30.0
"""How long what the browser has left may take to go."""
_READ_BYTES: Final = 1 << 20

# Chromium wants its pipes as descriptors 3 and 4, whatever numbers they have here.
_ONTO_3_AND_4: Final = (
    "import os, sys; r, w = map(int, sys.argv[1:3]); r2, w2 = os.dup(r), os.dup(w); "
    "os.dup2(r2, 3); os.dup2(w2, 4); os.set_inheritable(3, True); os.set_inheritable(4, True); "
    "os.execvp(sys.argv[3], sys.argv[3:])"
)


class BrowserError(Exception):
    """The browser, or the page in it, did not do what was asked."""


def find_chromium() -> str | None:
    """Its path, or None if there is none here."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@attrs.define
class Page:
    """The one page of a browser."""

    _to_browser: int
    _from_browser: int
    _session_id: str | None = None
    _number: int = 0
    _unread: bytes = b""
    complaints: list[str] = attrs.Factory(list)
    """Errors, warnings and refused requests since the browser started."""
    requests: list[str] = attrs.Factory(list)
    """Addresses of all that the page asked for."""

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Do a command of the protocol and return its result.

        Raises:
            BrowserError: it failed, or took longer than ANSWER_S.
        """
        self._number += 1
        command: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session_id is not None:
            command["sessionId"] = self._session_id
        os.write(self._to_browser, json.dumps(command).encode() + b"\0")
        deadline = time.monotonic() + ANSWER_S
        while True:
            message = self._next_message(deadline, method)
            if message.get("id") == self._number:
                break
            self._note(message)
        if "error" in message:
            raise BrowserError(f"{method}: {message['error'].get('message')}")
        result: dict[str, Any] = message["result"]
        return result

    def attach(self) -> None:
        """Get hold of the browser's page and listen to it."""
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session_id = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def resize(self, width: int, height: int, *, scale: float = 1.0) -> None:
        """Give the window this size, in its pixels; `scale` picture pixels for each of them."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=False,
        )

    def prefer(self, scheme: str) -> None:
        """Prefer `light` or `dark`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def open(self, path: Path, ready: str = "document.readyState === 'complete'") -> None:
        """Go to a file and wait until the expression `ready` is true in it."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait(ready)

    def wait(self, expression: str) -> None:
        """Wait, in the page, until the expression is true: looked at once a frame.

        Raises:
            BrowserError: it was not within ANSWER_S.
        """
        deadline = time.monotonic() + ANSWER_S
        script = (
            "new Promise((done) => { const end = performance.now() + 5000; const look = () => "
            f"({expression}) ? done(true) : performance.now() > end ? done(false) : "
            "requestAnimationFrame(look); look(); })"
        )
        while time.monotonic() < deadline:
            try:
                if self.evaluate(script) is True:
                    return
            except BrowserError as error:
                # The page was replaced while the question was asked: ask the new one.
                if "context" not in str(error) and "navigat" not in str(error):
                    raise
        raise BrowserError(f"not true within {ANSWER_S:.0f} s: {expression}; {self.complaints}")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page; a promise is waited for.

        Raises:
            BrowserError: it threw.
        """
        result = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            what = details.get("exception", {}).get("description", details.get("text"))
            raise BrowserError(f"{expression[:80]}: {what}")
        return result["result"].get("value")

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press and release a key, such as `ArrowRight`."""
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            extra = text if kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, modifiers=8 * shift, **extra)

    def click(self, x: float, y: float) -> None:
        """Click with the left button."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def picture(self, path: Path, part: str | None = None) -> None:
        """Write what the window shows as a PNG.

        Args:
            path: the PNG; replaced if it exists.
            part: a CSS selector; only this element then.
        """
        clip: dict[str, Any] = {}
        if part is not None:
            clip["clip"] = self.evaluate(
                f"(({{ x, y, width, height }}) => ({{ x, y, width, height, scale: 1 }}))"
                f"(document.querySelector({json.dumps(part)}).getBoundingClientRect())"
            )
        data = self.call("Page.captureScreenshot", format="png", **clip)["data"]
        path.write_bytes(base64.b64decode(data))

    def print_to(self, path: Path) -> None:
        """Print the page as a PDF."""
        data = self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def _next_message(self, deadline: float, method: str) -> dict[str, Any]:
        while b"\0" not in self._unread:
            rest_s = max(deadline - time.monotonic(), 0)
            if not select.select([self._from_browser], [], [], rest_s)[0]:
                raise BrowserError(f"{method}: no answer within {ANSWER_S:.0f} s")
            read = os.read(self._from_browser, _READ_BYTES)
            if not read:
                raise BrowserError(f"{method}: the browser is gone")
            self._unread += read
        first, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.complaints.append(str(details.get("exception", details).get("description")))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.complaints.append(str([arg.get("value") for arg in params["args"]]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.complaints.append(params["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])


@contextmanager
def open_browser(*, width: int = 1440, height: int = 900) -> Iterator[Page]:
    """A browser with one empty page; gone at the end of the block.

    Raises:
        BrowserError: there is no Chromium, or it does not start.
    """
    chromium = find_chromium()
    if chromium is None:
        raise BrowserError(f"none of {', '.join(NAMES)} is installed")
    with (
        _profile() as profile,
        _process(_command(chromium, profile, width, height)) as (write_fd, read_fd),
    ):
        page = Page(write_fd, read_fd)
        page.attach()
        page.resize(width, height)
        yield page


@contextmanager
def _profile() -> Iterator[str]:
    """A directory that is gone in the end, though the browser's children may go on writing there
    for a moment after they were killed."""
    directory = tempfile.mkdtemp()
    try:
        yield directory
    finally:
        until_s = time.monotonic() + REMOVED_S
        while True:
            try:
                shutil.rmtree(directory)
                break
            except OSError:
                if time.monotonic() > until_s:
                    raise
                time.sleep(0.05)  # nothing tells when the last of them is gone


def _command(chromium: str, profile: str, width: int, height: int) -> list[str]:
    return [
        *(chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
        *("--no-first-run", "--disable-extensions", "--disable-background-networking"),
        *("--disable-dev-shm-usage", "--force-color-profile=srgb", "--mute-audio"),
        *(f"--user-data-dir={profile}", f"--window-size={width},{height}"),
        *("--remote-debugging-pipe", "about:blank"),
    ]


@contextmanager
def _process(command: list[str]) -> Iterator[tuple[int, int]]:
    """The process, by the descriptors that it is written to and read from."""
    its_read, our_write = os.pipe()
    our_read, its_write = os.pipe()
    wrapper = [sys.executable, "-c", _ONTO_3_AND_4, str(its_read), str(its_write), *command]
    process = subprocess.Popen(  # noqa: S603 - a browser found by its name
        wrapper,
        pass_fds=(its_read, its_write),
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(its_read)
    os.close(its_write)
    try:
        yield our_write, our_read
    finally:
        os.close(our_write)
        os.close(our_read)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # all that it has started, as well
        process.wait()
