"""A served app and a watched page: what the browser tests are made of."""

from __future__ import annotations

import base64
import mimetypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, Request

ROOT = Path(__file__).resolve().parents[2]
PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg")
WIDE, NARROW = (1280, 900), (390, 844)

CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)

# Notes the last sign of life: anything that changes in the page, and anything that it sends to the server. And says on
# the console which picture stays in the page although it could not be loaded: one that a rerun takes away while it is
# being loaded is answered with 404 too, because the server has forgotten it already, but nobody misses it.
NOTE_ACTIVITY = """
(() => {
  const note = () => { window.olharLastActivity = performance.now(); };
  note();
  new MutationObserver(note).observe(document,
    {subtree: true, childList: true, attributes: true, characterData: true});
  document.addEventListener('error', ({target}) => {
    if (!(target instanceof HTMLImageElement)) return;
    const missing = target.currentSrc || target.src;
    setTimeout(() => {
      const same = (target.currentSrc || target.src) === missing;
      if (target.isConnected && same && !target.naturalWidth) console.error(`a picture is missing: ${missing}`);
    }, 500);
  }, true);
  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (...args) { note(); return send.apply(this, args); };
})();
"""

QUIET = """
(quiet) => {
  const app = document.querySelector('[data-testid="stApp"]');
  return app !== null
    && app.dataset.testScriptState === 'notRunning'
    && app.dataset.testConnectionState === 'CONNECTED'
    && [...document.images].every((image) => image.complete)
    && performance.now() - window.olharLastActivity >= quiet;
}
"""


def find_chromium() -> str | None:
    """Path of an installed Chromium, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for found in map(shutil.which, names) if found), None)


@dataclass(frozen=True)
class AppServer:
    """A running app: its address, its log, and the folder that holds its runs and cache."""

    url: str
    log: Path
    folder: Path


def free_port() -> int:
    """A port that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def serve(folder: Path, script: Path = ROOT / "streamlit_app.py", timeout: float = 60) -> Iterator[AppServer]:
    """Serve `script` as a person does, until the block is left; fails if the server's log holds a traceback."""
    port, log = free_port(), folder / "server.log"
    environment = {**os.environ, "XAI_RUNS": str(folder / "runs"), "XAI_CACHE": str(folder / "cache")}
    if "PYTEST_XDIST_WORKER" in os.environ:
        environment["OMP_NUM_THREADS"] = "1"  # the other workers need the other cores
    command = [sys.executable, "-m", "streamlit", "run", str(script), "--server.port", str(port)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=script.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its own process group, so that what it starts ends with it
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for_health(url, process, log, timeout)
        yield AppServer(url, log, folder)
    finally:
        end_group(process)
    text = log.read_text(errors="replace")
    assert not unexpected(text), f"the server's log holds a traceback:\n{text[-4000:]}"


def unexpected(log: str) -> list[str]:
    """How each traceback in a server's log ends, but for a browser that left while the server spoke to it.

    Streamlit's server logs that as exceptions of its web socket; it is no fault of the app.
    """
    ends: list[str] = []
    begun = False
    for line in log.splitlines():
        if "Traceback (most recent call last)" in line:
            begun = True
        elif begun and line.strip() and not line.startswith(" "):
            ends.append(line)
            begun = False
    ends += ["a traceback that was cut off"] if begun else []
    return [end for end in ends if "WebSocketDisconnected" not in end]


def wait_for_health(url: str, process: subprocess.Popen[bytes], log: Path, timeout: float) -> None:
    """Return once the server answers; raises with the end of its log if it does not."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"the app did not start:\n{log.read_text(errors='replace')[-4000:]}")


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End the server and everything it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            continue
    process.wait(5)


@dataclass
class Watch:
    """What went wrong in a browser context, noted as it happens."""

    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def follow(self, context: BrowserContext) -> None:
        """Start noting page errors, console errors and requests to other hosts."""
        context.on("weberror", lambda error: self.errors.append(f"page error: {error.error}"))
        context.on("console", self._console)
        context.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type != "error":
            return
        source = urlsplit(str(message.location.get("url", "")))
        # On a deep link the client looks for the server below the page's path first: two 404s, then it finds it.
        probe = source.path.count("/") > 2 and source.path.endswith(("/_stcore/health", "/_stcore/host-config"))
        picture = source.path.startswith("/media/") and source.path.endswith(PICTURES)  # NOTE_ACTIVITY tells of it
        if not ((probe or picture) and "404" in message.text):
            self.errors.append(f"console error: {message.text} ({source.geturl()})")

    def _request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme in ("http", "https", "ws", "wss") and address.hostname not in ("127.0.0.1", "localhost"):
            self.foreign.append(f"request to another host: {request.url}")

    def problems(self, context: BrowserContext) -> list[str]:
        """Everything noted, and the exceptions that the pages show."""
        shown = []
        for page in context.pages:
            for box in page.get_by_test_id("stException").all():
                shown.append(f"exception in the page: {box.inner_text()}")
        return [*self.errors, *self.foreign, *shown]


def settle(page: Page, quiet_ms: int = 300, timeout_s: float = 120) -> None:
    """Wait until the script has run, the pictures are there and nothing has moved for `quiet_ms` from now on.

    "Not running" alone would be too early: a rerun begins some 100 ms after the click that asks for it. A page that
    refreshes itself never settles; wait for what it should show instead (`expect(locator)`).
    """
    page.evaluate("() => { window.olharLastActivity = performance.now(); }")
    page.wait_for_function(QUIET, arg=quiet_ms, timeout=timeout_s * 1000, polling=50)


def visit(page: Page, url: str, timeout_s: float = 120) -> None:
    """Open an address of the app and wait until it has settled."""
    page.goto(url)
    settle(page, timeout_s=timeout_s)


def drop_file(page: Page, target: Locator, *paths: Path) -> None:
    """Drag files onto `target` and drop them, with the events and the DataTransfer of a real drag."""
    files = [
        {
            "name": path.name,
            "type": mimetypes.guess_type(path.name)[0] or "application/octet-stream",
            "body": base64.b64encode(path.read_bytes()).decode(),
        }
        for path in paths
    ]
    transfer = page.evaluate_handle(
        """(files) => {
          const transfer = new DataTransfer();
          for (const {name, type, body} of files) {
            const bytes = Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0));
            transfer.items.add(new File([bytes], name, {type}));
          }
          return transfer;
        }""",
        files,
    )
    for event in ("dragenter", "dragover", "drop"):
        target.dispatch_event(event, {"dataTransfer": transfer})


def overflow(page: Page) -> int:
    """By how many pixels the page can be scrolled sideways; 0 is right at every width."""
    pixels: int = page.evaluate(
        """() => Math.max(...[document.scrollingElement,
             ...document.querySelectorAll('[data-testid="stMain"], [data-testid="stAppViewContainer"]')]
             .map((box) => box.scrollWidth - box.clientWidth))"""
    )
    return pixels


def low_contrast(page: Page) -> list[str]:
    """Visible texts whose contrast with what is behind them is below WCAG AA: 4.5, or 3 for large letters.

    Colours and opacities are composed from the computed styles of a text's ancestors. Left out are texts over a
    picture or gradient, whose colour no style tells, and what is switched off (`disabled`), as WCAG does.
    """
    found: list[str] = page.evaluate(
        """() => {
          const context = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
          const rgba = (colour) => {
            context.clearRect(0, 0, 1, 1);
            context.fillStyle = colour;
            context.fillRect(0, 0, 1, 1);
            const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
            return [r, g, b, a / 255];
          };
          const over = (top, below, alpha) => top.slice(0, 3).map((v, i) => v * alpha + below[i] * (1 - alpha));
          const luminance = (rgb) => {
            const [r, g, b] = rgb.map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
            return .2126 * r + .7152 * g + .0722 * b;
          };
          const bad = [];
          const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          const seen = new Set();
          while (walker.nextNode()) {
            const text = walker.currentNode.textContent.trim();
            const element = walker.currentNode.parentElement;
            if (!text || seen.has(element) || element.closest('svg, canvas, noscript, script, style, title')) continue;
            seen.add(element);
            const box = element.getBoundingClientRect();
            const visible = element.checkVisibility({opacityProperty: true, visibilityProperty: true});
            if (!visible || box.width < 2 || box.height < 2) continue;
            if (element.closest('[disabled], [aria-disabled="true"]')) continue;
            const chain = [];
            for (let e = element; e; e = e.parentElement) chain.unshift(e);
            if (chain.some((e) => getComputedStyle(e).backgroundImage !== 'none')) continue;
            const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
            let below = [255, 255, 255];
            let opacity = 1;
            for (const each of chain) {
              const style = getComputedStyle(each);
              opacity *= Number(style.opacity);
              // A label may stand outside the box that it belongs to, unless that box scrolls.
              const box = each.getBoundingClientRect();
              const outside = x < box.left || x > box.right || y < box.top || y > box.bottom;
              if (outside && style.overflowY === 'visible') continue;
              const [r, g, b, a] = rgba(style.backgroundColor);
              below = over([r, g, b], below, a * opacity);
            }
            const style = getComputedStyle(element);
            const [r, g, b, a] = rgba(style.color);
            const front = over([r, g, b], below, a * opacity);
            const [low, high] = [luminance(front), luminance(below)].sort((x, y) => x - y);
            const ratio = (high + .05) / (low + .05);
            const px = parseFloat(style.fontSize);
            const large = px >= 24 || (px >= 18.66 && Number(style.fontWeight) >= 700);
            if (ratio < (large ? 3 : 4.5) - .01) {
              const where = element.closest('[data-testid]')?.dataset.testid;
              bad.push(`${ratio.toFixed(2)} "${text.slice(0, 40)}" in ${where} (${style.color})`);
            }
          }
          return bad;
        }"""
    )
    return found


def screenshot(page: Page, name: str, whole: bool = False) -> None:
    """Keep a picture as `$OLHAR_SCREENSHOTS/<name>.png`; nothing where that is not set.

    whole: the page to its end, not only what the window shows (the app scrolls inside its main part).
    """
    folder = os.environ.get("OLHAR_SCREENSHOTS")
    if not folder:
        return
    settle(page)
    size = page.viewport_size
    if whole and size:
        height = page.evaluate("""() => document.querySelector('[data-testid="stMain"]').scrollHeight""")
        page.set_viewport_size({"width": size["width"], "height": min(max(height, size["height"]), 6000)})
        settle(page)
    Path(folder).mkdir(parents=True, exist_ok=True)
    page.screenshot(path=Path(folder) / f"{name}.png")
    if whole and size:
        page.set_viewport_size(size)
        settle(page)
