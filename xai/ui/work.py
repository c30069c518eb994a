"""What the pages ask for, as keys and as work for the board: look at a picture, explain it.

A key holds everything that a result depends on (the picture's SHA-256, view, network and weights, method, parameters,
layer, target, seed), so a result found under it is right for every session.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Generic, TypeVar

from PIL import Image
from torch import Tensor

from xai import attribute, load_image, load_model
from xai.errors import UnknownNameError
from xai.explain.spec import METHODS
from xai.images.decode import SUPPORTED_SUFFIXES, image_digest
from xai.models.classifier import Classifier, LayerInfo
from xai.models.spec import MODELS
from xai.settings import ASSETS
from xai.studies.comparison import Cost, cost, passes
from xai.types import Attribution, Run
from xai.ui.memory import RECENT_BYTES, held
from xai.ui.nets import is_trained, net_stamp, net_title

AUTO_SECONDS = 4.0
AUTO_PASSES = 16
"""A method that takes more passes than these, and by estimate longer, waits until its cost has been seen and agreed."""

V = TypeVar("V")


class Recent(Generic[V]):
    """The most recently used values by key, at most `size`; thread-safe.

    All such memories of the process share `RECENT_BYTES`: beyond them the value used longest ago goes, whosever it is.
    """

    _every: ClassVar[weakref.WeakSet[Recent[Any]]] = weakref.WeakSet()
    _clock: ClassVar[Iterator[int]] = itertools.count()

    def __init__(self, size: int) -> None:
        self._every.add(self)
        self._size = size
        self._values: OrderedDict[Hashable, V] = OrderedDict()
        self._facts: dict[Hashable, tuple[int, int]] = {}  # bytes, and when it was used last
        self._making: dict[Hashable, threading.RLock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """The value of `key`, made where it is missing; who asks while another thread makes it waits for that."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                self._facts[key] = (self._facts[key][0], next(self._clock))
                return self._values[key]
            making = self._making.setdefault(key, threading.RLock())
        with making:
            with self._lock:
                if key in self._values:
                    return self._values[key]
            try:
                value = make()
                size = held(value)
                with self._lock:
                    self._values[key], self._facts[key] = value, (size, next(self._clock))
                    while len(self._values) > self._size:
                        del self._facts[self._values.popitem(last=False)[0]]
            finally:
                with self._lock:
                    self._making.pop(key, None)
        self._bound()
        return value

    @classmethod
    def nbytes(cls) -> int:
        """About how many bytes all such memories hold."""
        return sum(size for each in list(cls._every) for size, _ in list(each._facts.values()))

    @classmethod
    def _bound(cls) -> None:
        """Drop what was used longest ago until all fit into `RECENT_BYTES`; the last one stays whatever its size."""
        while cls.nbytes() > RECENT_BYTES:
            oldest = [(each._oldest(), each) for each in list(cls._every)]
            known = [(used, each) for used, each in oldest if used is not None]
            if len(known) < 2 and sum(len(each._values) for _, each in known) < 2:
                return
            _, each = min(known, key=lambda pair: pair[0])
            with each._lock:
                if each._values:
                    del each._facts[each._values.popitem(last=False)[0]]

    def _oldest(self) -> int | None:
        """When the value here that was used longest ago was used."""
        with self._lock:
            return self._facts[next(iter(self._values))][1] if self._values else None

    @classmethod
    def forget_all(cls) -> None:
        """Empty every such memory of the process."""
        for each in list(cls._every):
            with each._lock:
                each._values.clear()
                each._facts.clear()


@dataclass(frozen=True)
class Photo:
    """A picture that a person chose: its bytes, and their SHA-256, by which it is the same picture everywhere."""

    sha: str
    name: str
    sample: str = ""
    data: bytes = field(default=b"", repr=False, compare=False)

    def decoded(self) -> Image.Image:
        """The picture, RGB and upright; raises `ImageError`."""
        return _decoded.get(self.sha, lambda: load_image(self.data))


_decoded: Recent[Image.Image] = Recent(8)


@cache
def samples() -> Mapping[str, Photo]:
    """The shipped photographs by name."""
    files = sorted(p for p in (ASSETS / "samples").iterdir() if p.suffix in SUPPORTED_SUFFIXES)
    found = {}
    for file in files:
        data = file.read_bytes()
        found[file.stem] = Photo(image_digest(data), file.name, file.stem, data)
    return found


@dataclass(frozen=True)
class Net:
    """A classifier by name and weights, as it stands in a link: "vgg16", or "vgg16@random:0"."""

    name: str
    weights: str = "imagenet"

    @property
    def text(self) -> str:
        """How it is written in links and keys."""
        return self.name if self.weights == "imagenet" else f"{self.name}@{self.weights}"

    @property
    def key(self) -> str:
        """Identity: a trained network that has learned on is another one."""
        return f"{self.text}#{stamp}" if (stamp := net_stamp(self.name)) else self.text

    @property
    def title(self) -> str:
        """The network's name for people."""
        return net_title(self.name)

    @property
    def of_file(self) -> bool:
        """True where the weights are a person's own file, which no link can carry."""
        return self.weights.startswith("file:")

    @classmethod
    def of(cls, text: str) -> Net:
        """Read what `text` writes."""
        name, _, weights = text.partition("@")
        return cls(name, weights or "imagenet")

    def load(self) -> Classifier:
        """The classifier, from `load_model`'s own bounded cache."""
        return load_model(self.name, self.weights)


@dataclass(frozen=True)
class Scene:
    """A picture seen by a network: what every explanation starts from."""

    photo: Photo
    view: str
    net: Net

    @property
    def key(self) -> tuple[str, str, str]:
        """Identity: picture, view, network and weights."""
        return (self.photo.sha, self.view, self.net.key)

    def tensor(self, classifier: Classifier) -> Tensor:
        """What the network sees, (1,3,H,W)."""
        key = (*self.key, classifier.fingerprint)
        return _tensors.get(key, lambda: classifier.preprocess(self.photo.decoded(), self.view))


_tensors: Recent[Tensor] = Recent(32)


@dataclass(frozen=True)
class Ask:
    """One explanation of one scene. target None: the predicted class. go: run it however long it takes."""

    scene: Scene
    method: str
    params: tuple[tuple[str, Any], ...] = ()
    layer: str | None = None
    target: int | None = None
    seed: int = 0
    go: bool = False

    @property
    def key(self) -> tuple[Hashable, ...]:
        """Identity of the result."""
        return ("explain", *self.scene.key, self.method, self.params, self.layer, self.target, self.seed, self.go)

    @property
    def title(self) -> str:
        """The method's title."""
        return METHODS.get(self.method).title


@dataclass(frozen=True, eq=False)
class Look:
    """What a network says about a picture, and what a page must know about the network.

    box: where it looks, (left, top, right, bottom) as shares of the picture. order: all classes, likeliest first.
    """

    scene: Scene
    title: str
    random: bool
    fingerprint: str
    labels: tuple[str, ...]
    input_size: tuple[int, int]
    default_layer: str
    layers: tuple[LayerInfo, ...]
    stages: tuple[LayerInfo, ...]
    box: tuple[float, float, float, float]
    device: str
    picture: Image.Image
    probabilities: Tensor
    order: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self.probabilities.nbytes + held(self.picture) + len(self.scene.photo.data)


@dataclass(frozen=True, eq=False)
class Shown:
    """A finished explanation."""

    ask: Ask
    attribution: Attribution
    look: Look

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return held(self.attribution.values) + held(self.attribution.logits) + len(self.ask.scene.photo.data)


@dataclass(frozen=True)
class Held:
    """An explanation that waits for a yes: what it will cost."""

    cost: Cost


def look_key(scene: Scene) -> tuple[Hashable, ...]:
    """Key of the job that looks at a scene."""
    return ("look", *scene.key)


def look(scene: Scene, run: Run) -> Look:
    """Load the network, predict, and gather what the page shows. Raises `WeightsError`, `ImageError`, `Cancelled`."""
    from xai.images.render import input_picture

    run.report(0, 0, f"Loading {scene.net.title}")
    classifier = scene.net.load()
    x = scene.tensor(classifier)
    run.check()
    image = scene.photo.decoded()
    left, top, right, bottom = classifier.view_box(image.size, scene.view)
    logits = classifier.predict(x, run)[0]
    return Look(
        scene=scene,
        title=classifier.title,
        random=classifier.random,
        fingerprint=classifier.fingerprint,
        labels=classifier.labels,
        input_size=classifier.input_size,
        default_layer=classifier.default_layer,
        layers=classifier.layers(tokens=True),
        stages=classifier.stages(tokens=True),
        box=(left / image.width, top / image.height, right / image.width, bottom / image.height),
        device=str(classifier.device),
        picture=input_picture(x[0]),
        probabilities=classifier.output.probabilities(logits),
        order=tuple(int(i) for i in logits.argsort(descending=True)),
        notes=classifier.notes,
    )


def explain(ask: Ask, look_at: Look, run: Run) -> Shown | Held:
    """Run one method, or hold it where it is slow and nobody has said go. Raises what `attribute` raises.

    What a person has agreed to wait for runs on a copy of the network: nobody else waits for its lease.
    """
    classifier = ask.scene.net.load()
    params = {ask.method: dict(ask.params)}
    if passes(classifier, ask.method, layer=ask.layer, params=params) > AUTO_PASSES:
        known = cost(classifier, ask.method, layer=ask.layer, params=params, run=run)
        if known.seconds > AUTO_SECONDS:
            if not ask.go:
                return Held(known)
            classifier = classifier.private(run)
    x = ask.scene.tensor(classifier)
    found = attribute(classifier, x, ask.method, ask.target, ask.layer, ask.seed, run, **dict(ask.params))
    return Shown(ask, found, look_at)


def short(*parts: Hashable) -> str:
    """A short stable name for a key: 16 hex digits."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def png(image: Image.Image) -> bytes:
    """PNG bytes, quickly compressed: for the browser next door."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def known_method(name: str) -> str:
    """`name` if there is such a method; raises `UnknownNameError`."""
    return METHODS.get(name).name


def known_net(text: str) -> Net:
    """The network that `text` writes; raises `UnknownNameError` where there is none of that name."""
    net = Net.of(text)
    kind = net.weights.partition(":")[0]
    if kind not in ("imagenet", "random"):  # a link must not make the server open a file
        raise UnknownNameError(f"weights {net.weights!r} are not taken from a link.")
    if net.name not in MODELS and not is_trained(net.name):
        raise UnknownNameError(f"model {net.name!r} is not known.")
    return net
