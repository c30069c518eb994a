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
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, Request, Response
from playwright.sync_api import Error as BrowserError
from playwright.sync_api import expect as expect_soon

ROOT = Path(__file__).resolve().parents[2]
PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg")
WIDE, NARROW = (1280, 900), (390, 844)

STILL = 20.0
"""Seconds after which a test gives up waiting, if neither its page nor a server has moved meanwhile."""

LONGEST = 600.0
"""Seconds after which it gives up in any case: a page that refreshes itself moves for ever."""

BUSY = 0.5
"""Seconds of computing within `STILL` from which a server counts as moving; an idle one takes a tenth of that."""

RUNNING: dict[int, Path] = {}
"""Servers under way: process id to log."""

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

# Notes the last sign of life: anything that changes in the page, that it sends to the server, or hears from it. Notes
# what has had no answer yet: on a busy machine the run that a click asks for begins seconds later. And says on the
# console which picture stays in the page although it could not be loaded: one that a rerun takes away while it is being
# loaded is answered with 404 too, because the server has forgotten it already, but nobody misses it.
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
  const send = WebSocket.prototype.send, heard = new WeakSet();
  WebSocket.prototype.send = function (...args) {
    note();
    window.olharAsked = performance.now();
    if (!heard.has(this)) this.addEventListener('message', () => { note(); window.olharAsked = undefined; });
    heard.add(this);
    return send.apply(this, args);
  };
})();
"""

QUIET = """
(quiet) => {
  const app = document.querySelector('[data-testid="stApp"]');
  return app !== null
    && app.dataset.testScriptState === 'notRunning'
    && app.dataset.testConnectionState === 'CONNECTED'
    && app.querySelector('[data-testid="stMain"] [data-testid="stElementContainer"]')
    && !app.querySelector('[data-testid$="Skeleton"]')  // a part of the page whose script is still being loaded
    && [...document.images].every((image) => image.complete)
    && performance.now() - window.olharLastActivity >= quiet
    && !(performance.now() - window.olharAsked < 15000);  // what a part that is gone asks for is never answered
}
"""


def find_chromium() -> str | None:
    """Path of an installed Chromium, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for found in map(shutil.which, names) if found), None)


@dataclass(frozen=True)
class AppServer:
    """A running app: its address, its log, the folder that holds its runs and cache, and its process's number."""

    url: str
    log: Path
    folder: Path
    process: int


def free_port() -> int:
    """A port that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def serve(folder: Path, script: Path = ROOT / "streamlit_app.py", port: int = 0) -> Iterator[AppServer]:
    """Serve `script` as a person does, until the block is left; fails if the server's log holds a traceback.

    port: where, 0 for one that is free.
    """
    port, log = port or free_port(), folder / "server.log"
    environment = {**os.environ, "XAI_RUNS": str(folder / "runs"), "XAI_CACHE": str(folder / "cache")}
    environment["XAI_DATA"] = os.pathsep.join((str(folder.parent), str(ROOT)))
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
    RUNNING[process.pid] = log
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for_health(url, process, log)
        yield AppServer(url, log, folder, process.pid)
    finally:
        del RUNNING[process.pid]
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


def wait_for_health(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the server answers; raises with the end of its log if it ends, or does nothing for a while."""
    computed, moved = 0.0, time.monotonic()
    while time.monotonic() - moved < STILL and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.05)
        if (now := computing_seconds(process.pid)) > computed:
            computed, moved = now, time.monotonic()
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


def computing_seconds(process: int) -> float:
    """Processor time that a process has taken so far; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def patiently(page: Page, attempt: Callable[[float], object]) -> None:
    """Attempt something that takes a time limit in milliseconds, again and again while the page or a server moves.

    So a slow machine makes a test slow and does not make it fail. What a run has moved up stands on the page twice
    until the run has ended; an attempt that meets both is made again. Raises what the last attempt raised, with a
    report.
    """
    begun = time.monotonic()
    while True:
        computed = {process: computing_seconds(process) for process in RUNNING}
        try:
            attempt(1000 * STILL)
            return
        except (AssertionError, BrowserError) as error:
            passing = any(words in str(error) for words in ("Timeout", "strict mode violation"))
            if page.is_closed() or not (passing or isinstance(error, AssertionError)):
                raise
            busy = any(computing_seconds(process) - before > BUSY for process, before in computed.items())
            quiet = page.evaluate("() => performance.now() - (window.olharLastActivity ?? 0)") / 1000
            if (not busy and quiet >= STILL) or time.monotonic() - begun > LONGEST:
                waited = f"waited {time.monotonic() - begun:.0f} s, the last {quiet:.0f} s of them nothing moved"
                raise AssertionError(f"{error}\n{waited}\n{report(page)}") from error
            page.wait_for_timeout(50)


class Patient:
    """Playwright's `expect(...)`, whose assertions wait as long as something moves."""

    def __init__(self, subject: Page | Locator) -> None:
        self._subject = subject

    def __getattr__(self, name: str) -> Callable[..., None]:
        check = getattr(expect_soon(self._subject), name)
        page = self._subject if isinstance(self._subject, Page) else self._subject.page

        def wait(*wanted: object, **options: object) -> None:
            patiently(page, lambda limit: check(*wanted, **options, timeout=limit))

        return wait


def expect(subject: Page | Locator) -> Patient:
    """Assertions about a page or a part of it, for tests on machines of any speed."""
    return Patient(subject)


def report(*pages: Page) -> str:
    """Where pages are, pictures of them, and the end of the log of every server that runs."""
    folder = Path(os.environ.get("OLHAR_SCREENSHOTS") or tempfile.mkdtemp(prefix="olhar-browser-"))
    folder.mkdir(parents=True, exist_ok=True)
    told = []
    for page in pages:
        file = folder / f"failure-{time.time_ns()}.png"
        try:
            page.screenshot(path=file, timeout=1000 * STILL)
        except BrowserError as error:
            told.append(f"at {page.url}, which cannot be pictured: {error}")
        else:
            told.append(f"at {page.url}, shown in {file}")
    for log in RUNNING.values():
        told.append(f"the end of {log}:\n{log.read_text(errors='replace')[-4000:]}")
    return "\n".join(told)


@dataclass
class Watch:
    """What went wrong in a browser context, noted as it happens. answered: what the server refused, for reports."""

    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)

    def follow(self, context: BrowserContext) -> None:
        """Start noting page errors, console errors and requests to other hosts."""
        context.on("weberror", lambda error: self.errors.append(f"page error: {error.error}"))
        context.on("console", self._console)
        context.on("request", self._request)
        context.on("response", self._response)
        context.on("requestfailed", lambda request: self.answered.append(f"{request.failure}: {request.url}"))

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

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self.answered.append(f"{response.status}: {response.url}")

    def problems(self, context: BrowserContext) -> list[str]:
        """Everything noted, and the exceptions that the pages show."""
        shown = []
        for page in context.pages:
            for box in page.get_by_test_id("stException").all():
                shown.append(f"exception in the page: {box.inner_text()}")
        return [*self.errors, *self.foreign, *shown]


def settle(page: Page, quiet_ms: int = 300) -> None:
    """Wait until the script has run, the pictures are there and nothing has moved for `quiet_ms` from now on.

    "Not running" alone would be too early: a rerun begins some time after the click that asks for it. A page that
    refreshes itself never settles; wait for what it should show instead (`expect(locator)`).
    """
    page.evaluate("() => { window.olharLastActivity = performance.now(); }")
    patiently(page, lambda limit: page.wait_for_function(QUIET, arg=quiet_ms, timeout=limit, polling=50))


def visit(page: Page, url: str) -> None:
    """Open an address of the app and wait until it has settled."""
    page.goto(url)
    settle(page)


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
