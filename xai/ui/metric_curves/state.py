"""The metric curves page's state: pictures, networks, methods, protocol; the link and command that restore it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from xai.data.archive import ZipImage
from xai.data.folder import FileImage
from xai.data.spec import DataSet, Item, Problem
from xai.errors import InputError
from xai.explain.spec import METHODS
from xai.images.decode import load_image
from xai.metrics.curves import CURVES
from xai.metrics.protocol import get_protocol
from xai.metrics.substrate import check_substrate
from xai.models.classifier import VIEWS
from xai.studies.faithfulness.seen import BASELINES, Recipe
from xai.ui.doors import open_data
from xai.ui.forms import parsed
from xai.ui.session import FIRST_NET, Choice
from xai.ui.work import Photo, known_method, known_net, samples

FIRST_METHODS = ("gradcam", "layercam", "lrp")
"""Quick methods of two kinds, measured first; those that exist are taken."""

FIRST_PROTOCOL = "study"
"""Five positions: the first curves are there in a moment."""

FIRST_COUNT = 16
MOST_IMAGES = 200
"""Images of a large data set that the page measures at first, and at most; whole ones are the terminal's work."""

SOURCES = ("samples", "upload", "server")

_KEY = "olhar_curves"


@dataclass(frozen=True)
class Piece:
    """One image of the set. ident: what its cached results stand under; place: its number in the data set."""

    ident: Hashable
    item: Item = field(compare=False)
    place: int
    synthetic: bool = False


@dataclass(frozen=True)
class Pictures:
    """The images to measure. data: how `evaluate` takes them, "" where only the page has them. total: before sampling.

    sampled: how many were drawn, 0 for all. whole: the data set itself, for its classes.
    """

    name: str
    data: str
    pieces: tuple[Piece, ...]
    problems: tuple[Problem, ...] = ()
    total: int = 0
    sampled: int = 0
    whole: DataSet | None = field(default=None, compare=False)

    @property
    def key(self) -> tuple[Hashable, ...]:
        """Identity of the images in their order."""
        return tuple(piece.ident for piece in self.pieces)

    def labels(self, known: tuple[str, ...]) -> Callable[[Piece], int | None]:
        """Class of each image for a classifier with these labels; None where nothing is known."""
        classes = self.whole.class_map(known) if self.whole is not None else None

        def label(piece: Piece) -> int | None:
            own = piece.item.label
            return None if own is None or classes is None else classes[own]

        return label


def of_photos(photos: Sequence[Photo], data: str = "") -> Pictures:
    """Pictures at hand: samples, or what was uploaded."""
    items = [Item(photo.name, None, partial(load_image, photo.data), len(photo.data)) for photo in photos]
    pieces = tuple(Piece((p.sha, p.name), item, i) for i, (p, item) in enumerate(zip(photos, items, strict=True)))
    return Pictures("pictures", data, pieces, total=len(pieces))


def of_dataset(found: DataSet, data: str, count: int) -> Pictures:
    """At most `count` images of a data set, drawn as `evaluate --images` draws them."""
    drawn = found.sample(count)
    places = {item.key: place for place, item in enumerate(found.items)}
    pieces = tuple(Piece(_ident(item, found), item, places[item.key], found.synthetic) for item in drawn.items)
    sampled = len(drawn) if len(drawn) < len(found) else 0
    return Pictures(found.name, data, pieces, found.problems, len(found), sampled, found)


def _ident(item: Item, found: DataSet) -> Hashable:
    """What changes when the image does: size and time of its file, or of the zip that it lies in."""
    file = item.open.path if isinstance(item.open, FileImage) else None
    file = item.open.archive if isinstance(item.open, ZipImage) else file
    if file is None:
        return (found.name, found.fingerprint, item.key, item.label)
    try:
        about = file.stat()
    except OSError:  # gone since; opening it will say so
        return (str(file), item.key, "gone")
    return (str(file), item.key, about.st_size, about.st_mtime_ns, item.label)


@dataclass(frozen=True)
class Terms:
    """What is measured of every image, by hashable values only; `recipe` is the library's form of it."""

    methods: tuple[str, ...]
    protocol: str
    insertion: str = ""
    deletion: str = ""
    params: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...] = ()

    def recipe(self, methods: Sequence[str] | None = None) -> Recipe:
        """The library's recipe, of some methods alone or of all with the baselines."""
        names = self.methods if methods is None else tuple(methods)
        return Recipe(
            methods=names,
            baselines=BASELINES if methods is None else (),
            protocol=self.protocol,
            insertion_substrate=self.insertion,
            deletion_substrate=self.deletion,
            params={name: dict(own) for name, own in self.params if name in names or methods is None},
        )

    def by(self, protocol: str) -> Terms:
        """The same by another protocol, with that protocol's own substrates."""
        if protocol == self.protocol:
            return self
        return replace(self, protocol=protocol, insertion="", deletion="")

    def of(self, method: str) -> tuple[Hashable, ...]:
        """A method with its parameters: what its map depends on."""
        return (method, dict(self.params).get(method, ()))

    @property
    def protocol_key(self) -> tuple[str, str, str]:
        """What a map's curves depend on."""
        return (self.protocol, self.insertion, self.deletion)


@dataclass(eq=False)
class CurvesChoice(Choice):
    """What one visitor measures. source: one of `SOURCES`; which: the image under the scrubber; whole: opened data."""

    source: str = "samples"
    picked: tuple[str, ...] = ()
    uploads: tuple[Photo, ...] = ()
    path: str = ""
    whole: DataSet | None = None
    count: int = FIRST_COUNT
    which: int = 0
    protocol: str = FIRST_PROTOCOL
    insertion: str = ""
    deletion: str = ""
    baselines: bool = True

    @property
    def terms(self) -> Terms:
        """What is measured."""
        params = tuple((name, tuple(sorted(own.items()))) for name, own in sorted(self.params.items()) if own)
        used = tuple(each for each in params if each[0] in self.methods)
        return Terms(self.methods, self.protocol, self.insertion, self.deletion, used)

    def pictures(self) -> Pictures:
        """The images that are chosen now; none where the choice is not complete."""
        if self.source == "samples":
            every = self.picked == tuple(samples())
            return of_photos([samples()[name] for name in self.picked], "sample:photos" if every else "")
        if self.source == "upload" and self.uploads:
            return of_photos(self.uploads)
        if self.whole is None:
            return Pictures("", "", ())
        return of_dataset(self.whole, self.path if self.source == "server" else "", self.count)


def current() -> CurvesChoice:
    """This visitor's choice; on the first run it is read from the address."""
    if _KEY not in st.session_state:
        st.session_state[_KEY] = from_query(st.query_params.to_dict())
    choice: CurvesChoice = st.session_state[_KEY]
    return choice


def first_methods() -> tuple[str, ...]:
    """What is measured first."""
    return tuple(name for name in FIRST_METHODS if name in METHODS) or METHODS.names()[:1]


def open_server(choice: CurvesChoice, path: str) -> None:
    """Open a folder or zip on the server, or say in one sentence why not and keep what there was."""
    try:
        if not path.strip():
            raise InputError("the path is empty; give a folder or a zip on the server.")
        found = open_data(path.strip())
    except (InputError, OSError) as error:
        choice.problem = str(error) or f"{path} cannot be read."
        return
    choice.source, choice.path, choice.whole, choice.which, choice.problem = "server", path.strip(), found, 0, ""


def from_query(query: Mapping[str, str]) -> CurvesChoice:
    """The choice that `to_query` wrote; what does not exist is left out and said in `problem`."""
    unknown: list[str] = []
    shipped = samples()
    choice = CurvesChoice(next(iter(shipped.values())), picked=tuple(shipped), methods=first_methods())
    for name, text in query.items():
        kind, _, rest = name.partition(".")
        take = _READERS.get(kind)
        if take is None:
            continue
        try:
            take(choice, rest, text)
        except (ValueError, KeyError, InputError):
            unknown.append(f"{name} {text!r}")
    if unknown:
        said = f"The link asked for {', '.join(unknown)}, which is not here; the rest was restored."
        choice.problem = " ".join(filter(None, (said, choice.problem)))
    return choice


def _names(text: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(filter(None, text.split(","))))
    if not found:
        raise ValueError(text)
    return found


def _take_samples(choice: CurvesChoice, rest: str, text: str) -> None:
    wanted = [samples()[name].sample for name in _names(text)]
    choice.picked = tuple(name for name in samples() if name in wanted)


def _take_method(choice: CurvesChoice, rest: str, text: str) -> None:
    wanted = [known_method(name) for name in _names(text)]
    choice.methods = tuple(name for name in METHODS.names() if name in wanted and name not in BASELINES)
    if not choice.methods:
        choice.methods = first_methods()
        raise ValueError(text)


def _take_param(choice: CurvesChoice, rest: str, text: str) -> None:
    method, _, name = rest.partition(".")
    choice.params.setdefault(method, {})[name] = parsed(METHODS.get(method), name, text)


def _take_number(name: str, most: int) -> Callable[[CurvesChoice, str, str], None]:
    def take(choice: CurvesChoice, rest: str, text: str) -> None:
        value = int(text)
        if not (0 if name == "which" else 1) <= value <= most:
            raise ValueError(text)
        setattr(choice, name, value)

    return take


def _take_protocol(choice: CurvesChoice, rest: str, text: str) -> None:
    choice.protocol = get_protocol(text).name


def _take_view(choice: CurvesChoice, rest: str, text: str) -> None:
    choice.view = VIEWS[VIEWS.index(text)]


def _take_models(choice: CurvesChoice, rest: str, text: str) -> None:
    choice.nets = tuple(known_net(name) for name in _names(text))


def _take_substrate(metric: str) -> Callable[[CurvesChoice, str, str], None]:
    return lambda choice, rest, text: setattr(choice, metric, check_substrate(text))


_READERS: Mapping[str, Callable[[CurvesChoice, str, str], None]] = {
    "images": _take_samples,
    "data": lambda choice, rest, text: setattr(choice, "path", text),  # a person opens it; a link reads no folder
    "count": _take_number("count", MOST_IMAGES),
    "which": _take_number("which", MOST_IMAGES),
    "model": _take_models,
    "view": _take_view,
    "method": _take_method,
    "param": _take_param,
    "protocol": _take_protocol,
    "insertion": _take_substrate("insertion"),
    "deletion": _take_substrate("deletion"),
}


def to_query(choice: CurvesChoice) -> dict[str, str]:
    """The choice as query parameters; what is as at first is left out, and uploads cannot be in it."""
    query: dict[str, str] = {}
    if choice.source == "samples" and choice.picked != tuple(samples()):
        query["images"] = ",".join(choice.picked)
    if choice.source == "server" and choice.path:
        query |= {"data": choice.path, "count": str(choice.count)}
    query |= {"which": str(choice.which)} if choice.which else {}
    names = ",".join(net.name if net.of_file else net.text for net in choice.nets)
    query |= {"model": names} if choice.nets != (FIRST_NET,) else {}
    query |= {"view": choice.view} if choice.view != VIEWS[0] else {}
    query |= {"method": ",".join(choice.methods)} if choice.methods != first_methods() else {}
    query |= {"protocol": choice.protocol} if choice.protocol != FIRST_PROTOCOL else {}
    query |= {metric: value for metric in CURVES if (value := getattr(choice, metric))}
    for method, own in choice.terms.params:
        query |= {f"param.{method}.{name}": str(value) for name, value in own}
    return query


def command(choice: CurvesChoice, pictures: Pictures) -> str:
    """The terminal command that makes the same rows."""
    words = ["python", "-m", "xai", "evaluate", pictures.data or "FOLDER"]
    words += ["--model", *(net.name for net in choice.nets)]
    weights = [net.weights for net in choice.nets]
    same = len(set(weights)) == 1
    words += [] if set(weights) == {"imagenet"} else ["--weights", *(weights[:1] if same else weights)]
    words += ["--method", *choice.methods, "--protocol", choice.protocol]
    words += ["--insertion-from", choice.insertion] if choice.insertion else []
    words += ["--deletion-to", choice.deletion] if choice.deletion else []
    words += ["--view", choice.view] if choice.view != VIEWS[0] else []
    words += ["--images", str(pictures.sampled)] if pictures.sampled else []
    for method, own in choice.terms.params:
        for name, value in own:
            words += ["--param", f"{method}.{name}={str(value).lower() if isinstance(value, bool) else value}"]
    return shlex.join([*words, "--out", str(Path("runs") / "curves")])
