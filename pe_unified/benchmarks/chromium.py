"""A headless Chromium, controlled over pipes by its DevTools protocol; no package needed.

https://chromedevtools.github.io/devtools-protocol
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from pe_unified.errors import UserError

_NAMES = ("chromium", "chromium-browser", "google-chrome")
#: If there is none, tests of pages are skipped.
CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)
#: Bits of the protocol for keys that are held.
CTRL, SHIFT = 2, 8
#: Keys that are not letters: code and number of the key.
_KEYS = {
    "Enter": ("Enter", 13),
    "Escape": ("Escape", 27),
    "Tab": ("Tab", 9),
    "ArrowUp": ("ArrowUp", 38),
    "ArrowDown": ("ArrowDown", 40),
    "PageUp": ("PageUp", 33),
    "PageDown": ("PageDown", 34),
    "Home": ("Home", 36),
    "End": ("End", 35),
    " ": ("Space", 32),
}


class PageError(RuntimeError):
    """The page threw an error, or an expected condition did not become true."""


class Chromium:
    """One page in one browser; use it as a context.

    Args:
        width: width of the window, CSS pixels.
        height: height of the window, CSS pixels.

    Attributes:
        errors: errors that the page wrote to its console or threw.

    Raises:
        UserError: no Chromium is installed.
    """

    def __init__(self, width: int = 1440, height: int = 900) -> None:
        if CHROMIUM is None:
            raise UserError(f"no Chromium is installed; install one of {', '.join(_NAMES)}")
        self.errors: list[str] = []
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        # The browser reads from 3 and writes to 4.
        script = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        command = ["bash", "-c", script, CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu"]
        command += ["--remote-debugging-pipe", f"--user-data-dir={self._profile}"]
        command += [f"--window-size={width},{height}", "--hide-scrollbars", "about:blank"]
        self._process = subprocess.Popen(
            command,
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._left, self._number, self._session = b"", 0, ""
        targets = self._call("Target.getTargets")["targetInfos"]
        page = next(each["targetId"] for each in targets if each["type"] == "page")
        attached = self._call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")
        self.resize(width, height)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError, PageError):
            self._session = ""
            self._call("Browser.close")
        for end in (self._to, self._from):
            os.close(end)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)

    def resize(self, width: int, height: int, scale: float = 1.0) -> None:
        """Set the size of the page in CSS pixels; ``scale``: screen pixels per CSS pixel."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)

    def open(self, url: str) -> None:
        """Go to a page, and wait until it is loaded."""
        self.run("window.left_behind = true")
        self._call("Page.navigate", url=url)
        self.wait_for("!window.left_behind && document.readyState === 'complete'")

    def reload(self) -> None:
        """Load the page again from its server."""
        self.run("window.left_behind = true")
        self._call("Page.reload")
        self.wait_for("!window.left_behind && document.readyState === 'complete'")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited.

        Raises:
            PageError: it threw.
        """
        done = self._call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in done:
            raise PageError(_thrown(done["exceptionDetails"]))
        return done["result"].get("value")

    def wait_for(self, condition: str, seconds: float = 20.0) -> None:
        """Wait until an expression is true.

        Raises:
            PageError: it did not become true in time.
        """
        end = time.monotonic() + seconds
        while True:
            with suppress(PageError):  # between two pages nothing can be evaluated
                if self.run(f"Boolean({condition})"):
                    return
            if time.monotonic() > end:
                raise PageError(f"not in {seconds:g} s: {condition}; {self.errors}")
            time.sleep(0.02)

    def click(self, selector: str) -> None:
        """Click the middle of an element."""
        x, y = self.middle_of(selector)
        self.mouse("mousePressed", x, y)
        self.mouse("mouseReleased", x, y)

    def middle_of(self, selector: str) -> tuple[float, float]:
        """Scroll an element into view; returns its middle in CSS pixels."""
        code = (
            "(e => { e.scrollIntoView({block: 'nearest'}); const b = e.getBoundingClientRect();"
            f"return [b.x + b.width / 2, b.y + b.height / 2]; }})({_element(selector)})"
        )
        x, y = self.run(code)
        return x, y

    def drag(self, *points: tuple[float, float], button: str = "left") -> None:
        """Press at the first point, move through the others, and release."""
        self.mouse("mousePressed", *points[0], button)
        for point in points[1:]:
            self.mouse("mouseMoved", *point, button)
        self.mouse("mouseReleased", *points[-1], button)

    def mouse(self, kind: str, x: float, y: float, button: str = "left", **more: Any) -> None:
        """One event of the mouse: mousePressed, mouseMoved, mouseReleased, mouseWheel."""
        held = {"left": 1, "right": 2, "middle": 4, "none": 0}[button]
        buttons = 0 if kind == "mouseReleased" else held
        event = {"type": kind, "x": x, "y": y, "button": button, "clickCount": 1} | more
        self._call("Input.dispatchMouseEvent", buttons=buttons, **event)

    def wheel(self, x: float, y: float, down: float) -> None:
        """Turn the wheel by so many CSS pixels."""
        self.mouse("mouseWheel", x, y, "none", deltaX=0, deltaY=down)

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press and release a key: a letter, or the name of a key."""
        code, number = _KEYS.get(key, (f"Key{key.upper()}", ord(key.upper()[:1])))
        told: dict[str, Any] = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 and not modifiers & CTRL else "")
        down = told | ({"text": text} if text else {})
        self._call("Input.dispatchKeyEvent", type="keyDown", modifiers=modifiers, **down)
        self._call("Input.dispatchKeyEvent", type="keyUp", modifiers=modifiers, **told)

    def type(self, text: str) -> None:
        """Type text into the element that has the focus."""
        self._call("Input.insertText", text=text)

    def screenshot(self, path: Path) -> None:
        """Save the visible part of the page as PNG."""
        data = self._call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise PageError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            _note(answer, self.errors.append)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            piece = os.read(self._from, 1 << 20)
            if not piece:
                raise PageError("the browser ended")
            self._left += piece
        message, _, self._left = self._left.partition(b"\0")
        return json.loads(message)


def _element(selector: str) -> str:
    return f"document.querySelector({json.dumps(selector)})"


def _note(event: dict[str, Any], add: Callable[[str], None]) -> None:
    """Add the errors in the page that an event reports."""
    given = event.get("params", {})
    if event.get("method") == "Runtime.exceptionThrown":
        add(_thrown(given["exceptionDetails"]))
    elif event.get("method") == "Runtime.consoleAPICalled" and given["type"] == "error":
        add(" ".join(str(each.get("value", each.get("description"))) for each in given["args"]))
    elif event.get("method") == "Log.entryAdded" and given["entry"]["level"] == "error":
        add(f"{given['entry']['text']} {given['entry'].get('url', '')}")


def _thrown(details: dict[str, Any]) -> str:
    return details.get("exception", {}).get("description", details["text"])
