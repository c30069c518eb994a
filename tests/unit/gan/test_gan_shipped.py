"""The generator that comes with Olhar: it is what its description says, and its figures are its own."""

from __future__ import annotations

import json

import pytest
import torch

from xai.cli import parser
from xai.data import open_dataset
from xai.gan.sample import reconstructions, sample
from xai.gan.saved import SHIPPED, Generator, load_discriminator, load_generator


@pytest.fixture(scope="module")
def shipped() -> Generator:
    return load_generator(SHIPPED)


def test_it_is_of_the_data_that_it_names(shipped: Generator) -> None:
    data = open_dataset("sample:parts")
    assert shipped.classes == data.classes
    assert shipped.facts["data_fingerprint"] == data.fingerprint
    assert shipped.facts["synthetic"]
    assert shipped.settings.size == 64


def test_its_command_can_be_said_again(shipped: Generator) -> None:
    words = shipped.facts["command"].removeprefix("python -m xai ").split()
    args = parser().parse_args(words)
    assert (args.action, args.data, args.size, args.steps) == ("train", "sample:parts", 64, shipped.facts["steps"])


def test_it_is_a_few_megabytes_and_draws(shipped: Generator) -> None:
    assert SHIPPED.stat().st_size < 6e6
    images, labels = sample(shipped, range(20))
    assert labels.tolist() == [*range(10), *range(10)]
    assert images.shape == (20, 3, 64, 64)
    assert float(images.std(0).mean()) > 0.05  # samples differ
    parts = reconstructions(load_discriminator(SHIPPED), images[:2])
    assert float((parts[0][0] - parts[0][1]).abs().mean()) < 0.15  # of 1: it knows what it saw


def test_its_figures_are_its_own(shipped: Generator) -> None:
    told = json.loads(SHIPPED.with_name("parts-quality.json").read_text(encoding="utf-8"))
    assert told["generator"] == shipped.fingerprint
    assert told["extractor"] == "EffNetLite0@128"
    assert told["reference"]["kid"]["value"] < told["samples"]["kid"]["value"] < told["noise"]["kid"]["value"]
    assert told["pixel_ratio"] >= 0.7  # not collapsed
    assert told["copying"]["ratio"] > 0.5  # not copied
    assert told["agreement"]["agreement"] > 0.8  # the classes can be told apart
    assert told["samples"]["kid"]["value"] < 300
    assert torch.tensor(told["agreement"]["confusion"]).sum() == told["samples"]["n"]
