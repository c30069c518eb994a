"""Judge a trained generator against the data that it was trained on: the shares are drawn again, and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from torch import Tensor

from xai.data.call import open_dataset
from xai.data.spec import DataSet
from xai.data.together import Together
from xai.errors import InputError
from xai.gan.agreement import agreement, train_judge
from xai.gan.features import Extractor, inception, lite0
from xai.gan.images import Pictures, Shares, labels_like, only_class, read_pictures, read_shares, split_places
from xai.gan.judge import Quality, judge
from xai.gan.sample import check_samples, generate, latents
from xai.gan.saved import Generator
from xai.public import public
from xai.types import Run

SAMPLES = 1000

EXTRACTORS = ("lite0", "inception")


def data_of(made: Generator, data: str = "") -> DataSet:
    """What a generator was trained on and judged by, from its own record or from where `data` says it is now."""
    for name in ("data", "share", "split_seed", "train_fingerprint"):
        if name not in made.facts:
            raise InputError(f"the generator does not tell its {name}; give one that xai gan train has saved.")
    return marked_for(made, only_class(open_dataset(data or made.facts["data"]), made.facts.get("only", "")))


def marked_for(made: Generator, data: DataSet) -> DataSet:
    """The data set with the copies of one picture that the generator's training kept on one side."""
    return Together.of(made.facts).mark(data)


def first_pictures(made: Generator, count: int, run: Run, data: str = "") -> Pictures:
    """The first `count` training images of each class."""
    opened = data_of(made, data)
    train, _ = split_places(opened, made.facts["share"], made.facts["split_seed"])
    return read_pictures(opened, first_places(opened, train, count), made.settings.size, run)


def first_places(data: DataSet, places: Sequence[int], count: int) -> tuple[int, ...]:
    """The first `count` of `places` in each class, class by class."""
    by_class: dict[int | None, list[int]] = {}
    for place in places:
        by_class.setdefault(data.items[place].label, []).append(place)
    return tuple(place for each in by_class.values() for place in each[:count])


def shares_of(made: Generator, run: Run, data: str = "") -> Shares:
    """The training and held-out images of a generator, from its own record or from where `data` says they are now.

    Raises `InputError` where they are not the images that it was trained on.
    """
    facts, opened = made.facts, data_of(made, data)
    shares = read_shares(opened, made.settings.size, run, facts["share"], facts["split_seed"])
    if shares.train.fingerprint != facts["train_fingerprint"]:
        raise InputError(
            f"{data or facts['data']} is not what the generator was trained on (its training images are "
            f"{shares.train.fingerprint}, not {facts['train_fingerprint']}); give that data."
        )
    return shares


def extractor_of(name: str, run: Run) -> Extractor:
    """The extractor called `name`, one of `EXTRACTORS`."""
    if name not in EXTRACTORS:
        raise InputError(f"extractor {name!r} is not known; use {' or '.join(EXTRACTORS)}.")
    return lite0(run.device) if name == "lite0" else inception(run.device)


@public
def judge_generator(
    made: Generator,
    run: Run,
    data: str = "",
    count: int = SAMPLES,
    extractor: str = "lite0",
    truncation: float | None = None,
) -> tuple[Quality, Tensor, Tensor]:
    """(quality, samples, their labels) of `count` samples with seeds 0 .. count - 1, the classes as in the data."""
    check_samples(made, count)
    features = extractor_of(extractor, run)
    shares = shares_of(made, run, data)
    if not made.classes:
        shares = shares.unlabelled()
    labels = labels_like(shares.train.labels, count)
    images = generate(made, latents(range(count), made.settings.nz, truncation), labels, run)
    told = None
    if len(made.classes) > 1:
        told = asdict(agreement(train_judge(shares.train, run), images, labels, shares))
    return judge(images, labels, shares, features, run, told), images, labels
