"""The shipped photographs one by one, with their licences; as a data set they are `sample:photos`."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from xai.errors import UnknownNameError
from xai.images.decode import load_image
from xai.registry import Source
from xai.settings import ASSETS

FOLDER = ASSETS / "samples"


@dataclass(frozen=True)
class Sample:
    """A photograph: source says who made it and where; label is the ImageNet class that fits it best, as a hint."""

    name: str
    title: str
    path: Path
    licence: str
    source: Source
    label: str


def _sample(file: str, title: str, licence: str, citation: str, link: str, label: str) -> Sample:
    return Sample(Path(file).stem, title, FOLDER / file, licence, Source(citation, link), label)


_SKIMAGE = "https://scikit-image.org/docs/stable/api/skimage.data.html"

_SAMPLES = (
    _sample("chelsea.png", "Cat", "CC0", "Stefan van der Walt, scikit-image", _SKIMAGE, "tiger cat"),
    _sample("coffee.png", "Coffee", "CC0", "Rachel Michetti, scikit-image", _SKIMAGE, "espresso"),
    _sample(
        "rocket.jpg", "Rocket", "public domain", "SpaceX, scikit-image",
        "https://www.flickr.com/photos/spacexphotos/16511594820/", "missile",
    ),
    _sample(
        "china.jpg", "Temple", "CC BY 2.0", "danielbuechele, scikit-learn",
        "https://www.flickr.com/photos/danielbuechele/6061409035/", "palace",
    ),
    _sample(
        "flower.jpg", "Flower", "CC BY 2.0", "vultilion, scikit-learn",
        "https://www.flickr.com/photos/vultilion/6056698931/", "daisy",
    ),
)  # fmt: skip


def list_samples() -> tuple[Sample, ...]:
    """The shipped photographs, in the order in which pages offer them."""
    return _SAMPLES


def load_sample(name: str) -> Image.Image:
    """The photograph called `name`, as `load_image` gives it; raises `UnknownNameError` that suggests near names."""
    known = {sample.name: sample for sample in _SAMPLES}
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(known)}."
        raise UnknownNameError(f"photograph {name!r} is not known; {hint}")
    return load_image(known[name].path)
