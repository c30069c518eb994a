"""A tiny study: class folders of noise whose brightness tells the class, and a generator that saw a share of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from xai.data.call import open_dataset
from xai.data.spec import DataSet
from xai.gan.images import only_class, read_pictures, split_places
from xai.gan.saved import Generator, load_generator, merged, save_generator
from xai.gan.settings import LAPTOP, build_generator
from xai.studies.augmentation.data import Shares, read_shares
from xai.studies.augmentation.study import AugmentRequest
from xai.types import Run

CLASSES = ("bolt", "nut", "washer")


def folder(place: Path, count: int = 12, seed: int = 0) -> Path:
    """`count` pictures of 32 px in each of three class folders."""
    rng = np.random.default_rng(seed)
    for index, name in enumerate(CLASSES):
        (place / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            levels = rng.integers(0, 120, (32, 32, 3)) + 60 * index
            Image.fromarray(levels.astype(np.uint8)).save(place / name / f"{number:02}.png")
    return place


def generator(data: Path, out: Path, only: str = "", **facts: object) -> Path:
    """An untrained generator of 32 px that says it was trained on 60 % of `data`; `facts` says otherwise."""
    opened = only_class(open_dataset(data), only)
    train, _ = split_places(opened, 0.6, 3)
    pictures = read_pictures(opened, train, 32, Run())
    settings = dataclasses.replace(LAPTOP, size=32, nz=8, ngf=2, ndf=2, decoder_side=16)
    classes = () if only else opened.classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = merged(build_generator(settings, len(classes)))
    told = {
        "data": str(data),
        "data_name": opened.name,
        "data_fingerprint": opened.fingerprint,
        "only": only,
        "share": 0.6,
        "split_seed": 3,
        "train_fingerprint": pictures.fingerprint,
        "train_images": len(train),
        **facts,
    }
    save_generator(out, Generator(net, settings, classes, told))
    return out


def request(data: Path, made: Path, **changes: object) -> AugmentRequest:
    """Seconds of work: every arm but the pre-trained one, two seeds."""
    usual = AugmentRequest(
        data=str(data),
        arms=("real", "traditional", "synthetic", "both"),
        ratios=(50, 100),
        percents=(100, 50),
        seeds=2,
        steps=8,
        batch=6,
        rounds=4,
        generators=(str(made),),
        validation=0.4,
        look=6,
    )
    return dataclasses.replace(usual, **changes)  # type: ignore[arg-type]


def shares_of(data: Path, *paths: Path, validation: float = 0.4) -> tuple[DataSet, Shares]:
    """The data set, and its shares as the generators saved at `paths` have cut it."""
    opened = open_dataset(data)
    return opened, read_shares(opened, [load_generator(path) for path in paths], 32, 0.6, 3, validation, Run())
