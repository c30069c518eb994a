"""What a visitor of the pages may name on the server: files below `XAI_DATA`, and nothing else.

The terminal belongs to whoever may log in, and is not restricted. The pages have no accounts: whoever reaches the
server can type a path into them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

import streamlit as st
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from xai.data import DataSet, open_dataset
from xai.data.folder import FileImage
from xai.data.layout import TABLES
from xai.errors import InputError
from xai.files import user_path
from xai.models.store import stated_output
from xai.settings import ASSETS, cache_dir, data_roots, runs_dir
from xai.uploads import touch

SHOWN = 3
"""Links that a refusal names."""


class OwnHosts:
    """Refuses every request whose Host header is not in `server.allowedHosts`: pages, files, uploads, the socket.

    Streamlit 1.67 looks at that setting for its WebSocket alone. A page elsewhere whose name is made to lead to this
    machine (DNS rebinding) could read the pictures, and send files, over plain HTTP.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 400, or pass the request on."""
        if scope["type"] in ("http", "websocket"):
            hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
            if len(hosts) != 1 or not _served(hosts[0]):
                await PlainTextResponse(REFUSED, 400)(scope, receive, send)
                return
        await self.app(scope, receive, send)


REFUSED = "This server does not answer to that host name; whoever runs it can add it to server.allowedHosts."

OWN_HOSTS = (Middleware(OwnHosts),)


def _served(host: str) -> bool:
    """Whether a Host header names one of `server.allowedHosts`: "*.a.org" is all below a.org, an empty list any."""
    allowed = [str(each).strip().lower().rstrip(".") for each in st.get_option("server.allowedHosts") or ["*"]]
    try:
        split = urlsplit(f"//{host}")
        name, _ = (split.hostname or "").rstrip("."), split.port  # a port that is none raises
    except ValueError:
        return False
    if not name or split.netloc != host or "@" in host:
        return False
    return any(each in ("*", name) or (each.startswith("*.") and name.endswith(each[1:])) for each in allowed)


def on_loopback() -> bool:
    """Whether only this machine can reach the server by its own address."""
    address = str(st.get_option("server.address") or "")
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:  # every address, or a host name
        return False


def roots() -> tuple[Path, ...]:
    """The folders below which a visitor may name files, resolved."""
    return data_roots(on_loopback())


def checked(place: str) -> str:
    """`place`, a path as a visitor wrote it, "sample:NAME", or "".

    Raises `InputError` where it leads outside `roots()`, also by a link; whether there is anything is not told then.
    What was sent to the pages, what they ship with and the runs are inside.
    """
    if not place or place.startswith("sample:"):
        return place
    path = user_path(place).resolve()
    if not _inside([path], [*roots(), cache_dir().resolve() / "uploads", cache_dir().resolve() / "weights"]):
        raise InputError(
            f"{place} is outside the folders that the pages may read ({', '.join(map(str, roots()))}); whoever runs "
            "the server can add one by XAI_DATA, and the terminal reads any."
        )
    touch(path)
    return place


def checked_weights(text: str) -> str:
    """`text` as `--weights` takes it; raises `InputError` where the file, its labels or the run lie outside."""
    kind, _, rest = stated_output(text)[0].partition(":")
    if kind == "file" and rest:
        checked(rest)
        for suffix in (".txt", ".json"):  # class names are read from beside the weights, and shown
            checked(str(Path(rest).with_suffix(suffix)))
    elif kind == "run" and rest:
        own = (runs_dir() / rest).resolve()
        if not (own.exists() and own.is_relative_to(runs_dir().resolve())):  # then it is taken for a path
            checked(rest)
    return text


def open_data(place: str, layout: str = "auto") -> DataSet:
    """`open_dataset` for a place that a visitor named.

    Raises `InputError` for what is outside, for a folder that holds links to files outside, and what that raises.
    """
    data = open_dataset(checked(place), layout)
    if place.startswith("sample:"):
        return data
    folder, inside = user_path(place), roots()
    tables = [base / name for base in (folder, folder.resolve().parent) for name in TABLES] if folder.is_dir() else []
    for path in tables:  # the parent of a root is outside, without a link
        if path.is_file() and not path.is_symlink() and not _inside([path.resolve()], inside):
            raise InputError(
                f"{path.name} beside {place} is outside the folders that the pages may read; move it into the folder, "
                "or away."
            )
    files = (*(item.open.path for item in data.items if isinstance(item.open, FileImage)), *tables)
    leaving = [path for path in files if path.is_symlink() and not _inside([path.resolve()], inside)]
    if leaving:
        names = ", ".join(path.name for path in leaving[:SHOWN])
        more = f" and {len(leaving) - SHOWN} more" if len(leaving) > SHOWN else ""
        raise InputError(
            f"{place} holds links to files outside the folders that the pages may read ({names}{more}); remove them, "
            "or have whoever runs the server add where they lead to XAI_DATA."
        )
    return data


def _inside(paths: Iterable[Path], folders: Iterable[Path]) -> bool:
    allowed = [*folders, ASSETS.resolve(), runs_dir().resolve()]
    return all(any(path.is_relative_to(each) for each in allowed) for path in paths)
