"""Numbers so large that no machine has the memory or the years: refused in one sentence that names the bound."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch

import xai
from xai.attacks import pgd
from xai.attacks.call import sweep
from xai.attacks.spec import ATTACKS
from xai.commands.attack import parse_epsilons
from xai.data.spec import SAMPLES
from xai.errors import Cancelled, InputError
from xai.explain.rise import DRAWN, mask_maker
from xai.explain.spec import METHODS
from xai.gan.sample import sample
from xai.gan.saved import Generator
from xai.gan.settings import LAPTOP, GanSettings, build_generator
from xai.metrics.curves import curves
from xai.metrics.pointing import pointing
from xai.metrics.spec import METRICS
from xai.models.batching import check_batch
from xai.models.classifier import Classifier
from xai.params import parameters
from xai.stats.intervals import bootstrap_mean
from xai.studies.augmentation.study import AugmentRequest
from xai.studies.bias.mend import MendRequest
from xai.studies.bias.own import OwnRequest
from xai.studies.bias.run import BiasRequest
from xai.studies.bias.train import Experiment
from xai.studies.faithfulness.evaluate import Request, evaluate
from xai.studies.faithfulness.measure import Recipe as Measured
from xai.studies.gan.training import GanRequest
from xai.studies.transfer.request import TransferRequest
from xai.studies.transfer.train import train
from xai.training.recipe import Recipe
from xai.types import Run

HUGE = 10**9

UNBOUNDED = {"seed", "split_seed", "size", "images", "cats", "dogs", "pixels", "ratios", "percents"}
"""Numbers that cost nothing however large they are, and those that something else bounds (a list of sizes, the data,
the drawing that they are for); each of the latter has its case below."""

OWN = OwnRequest("sample:pets", "simple_cnn")


def owners() -> Iterator[Any]:
    """Every parameter dataclass of a registry, and the studies' requests."""
    for specs, name in ((METHODS, "explainer"), (ATTACKS, "params"), (METRICS, "params"), (SAMPLES, "params")):
        yield from (
            pytest.param(getattr(each, name), id=each.name) for each in specs if parameters(getattr(each, name))
        )
    requests = (
        GanSettings,
        GanRequest,
        Recipe,
        Measured,
        Request,
        AugmentRequest,
        BiasRequest,
        MendRequest,
        Experiment,
    )
    yield from (pytest.param(each, id=f"{each.__module__.split('.')[-1]}.{each.__name__}") for each in requests)


@pytest.mark.parametrize("owner", [*owners()])
def test_every_whole_number_has_a_bound_that_is_named(owner: Any) -> None:
    needed: dict[str, Any] = {"data": "sample:photos", "own": OWN, "models": (), "recipe": Measured()}
    needed |= {"settings": LAPTOP, "steps": 1}
    known = {each.name: needed[each.name] for each in parameters(owner) if each.name in needed}
    if owner not in (MendRequest, GanRequest, AugmentRequest, BiasRequest, Request):
        known = {}
    for each in parameters(owner):
        hint = get_type_hints(owner)[each.name]
        if int not in (hint, *get_args(hint)) or (each.name in UNBOUNDED and "max" not in each.metadata):
            continue
        most = 100_000 if (owner, each.name) == (Experiment, "epochs") else each.metadata["max"]
        with pytest.raises(InputError) as refused:
            owner(**{**known, each.name: 2**40})
        assert str(refused.value).startswith(f"{each.name} is {2**40}; give ")
        assert str(refused.value).endswith(f" to {most}.")


@pytest.fixture(scope="module")
def small() -> Classifier:
    return xai.load_model("simple_cnn", "random:0", "cpu")


def picture(classifier: Classifier) -> torch.Tensor:
    return torch.rand(1, 3, *classifier.input_size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda net, x, out: xai.attribute(net, x, "rise", masks=HUGE), "masks is 1000000000; give 1 to 100000."),
        (lambda net, x, out: xai.attribute(net, x, "random", cells=HUGE), "cells is 1000000000; give 1 to 1024."),
        (lambda net, x, out: pgd(net, x, steps=HUGE), "steps is 1000000000; give 1 to 10000."),
        (lambda net, x, out: pgd(net, x, restarts=HUGE), "restarts is 1000000000; give 1 to 1000."),
        (
            lambda net, x, out: sweep(net, x, torch.linspace(0, 1, 1001)),
            "the number of epsilons is 1001; give 1 to 1000.",
        ),
        (lambda net, x, out: parse_epsilons([f"0:1:{1e-9}"], "linf"), "--epsilon 0:1:1e-09 has more than 1000 values"),
        (
            lambda net, x, out: parse_epsilons(["0:99:0.1", "0.05:99:0.1"], "linf"),
            "the number of epsilons is 1981; give 1 to 1000.",
        ),
        (
            lambda net, x, out: curves(net, x, {"a": x.mean(1)}, batch=HUGE),
            "batch is 1000000000; give 1 to 256.",
        ),
        (
            lambda net, x, out: evaluate(
                Request("sample:photos", (("simple_cnn", "random:0"),), Measured()), out, device="cpu", batch=HUGE
            ),
            "batch is 1000000000; give 1 to 256.",
        ),
        (
            lambda net, x, out: evaluate(
                Request("sample:photos", (("simple_cnn", "random:0"),), Measured()), out, device="cpu", workers=HUGE
            ),
            "workers is 1000000000; give 0 to 64.",
        ),
        (
            lambda net, x, out: train(
                TransferRequest("sample:parts?count=2", "simple_cnn", "random:0"), out, device="cpu", workers=HUGE
            ),
            "workers is 1000000000; give 0 to 64.",
        ),
        (lambda net, x, out: bootstrap_mean(x[0, 0, 0], resamples=HUGE), "resamples is 1000000000; give 1 to 100000."),
        (lambda net, x, out: Experiment(cats=HUGE), "cats is 1000000000; give 1 to 5000."),
        (lambda net, x, out: Experiment(pixels=HUGE), "pixels is 1000000000; give 32 to 512."),
        (lambda net, x, out: replace(LAPTOP, size=HUGE), "size 1000000000 is not possible; use 32, 64"),
        (lambda net, x, out: xai.attribute(net, x, "occlusion", window=HUGE), "window is 1000000000; give 1 to 4096."),
    ],
)
def test_it_is_refused_in_one_sentence_and_nothing_is_begun(
    ask: Callable[[Classifier, torch.Tensor, Path], object], words: str, small: Classifier, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as refused:
        ask(small, picture(small), tmp_path / "run")
    assert str(refused.value).startswith(words)
    assert not (tmp_path / "run").exists()


def test_samples_are_bounded_by_their_number_and_by_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Generator(build_generator(LAPTOP, 0).eval(), LAPTOP, (), {}, "")
    with pytest.raises(InputError, match=r"^the number of samples is 1000000000; give 1 to 100000\.$"):
        sample(made, range(HUGE))
    monkeypatch.setattr("xai.settings.free_memory", lambda: 2**30)
    with pytest.raises(
        InputError,
        match=r"^100000 samples of 64 px need 13\.7 GB of memory, of which 1\.0 GB are free; ask for fewer\.$",
    ):
        sample(made, range(100_000))


def test_a_sweep_is_bounded_by_the_memory(small: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xai.settings.free_memory", lambda: 2**20)
    with pytest.raises(
        InputError, match=r"^1 image at 1,000 epsilons need 0\.\d GB of memory, of which 0\.0 GB are free; "
    ):
        sweep(small, picture(small), torch.linspace(0, 1, 1000))


def test_a_batch_of_another_device_may_be_larger() -> None:
    check_batch(4096, torch.device("cuda"))
    with pytest.raises(InputError, match=r"^batch is 4097; give 1 to 4096\.$"):
        check_batch(4097, torch.device("cuda"))


def test_masks_in_pieces_are_those_of_one_sequence() -> None:
    count, cells = 2 * DRAWN + 5, 3
    like = torch.zeros(1, 3, 7, 9)
    made = mask_maker(count, cells, 0.5, like, torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(4)
    grids = (torch.rand(count, cells, cells, generator=generator) < 0.5).float()
    tops, lefts = (torch.randint(step, (count,), generator=generator) for step in (3, 3))
    for place in (0, DRAWN - 1, DRAWN, count - 1):
        upsampled = torch.nn.functional.interpolate(grids[place][None, None], (12, 12), mode="bilinear")[0, 0]
        expected = upsampled[tops[place] : tops[place] + 7, lefts[place] : lefts[place] + 9]
        torch.testing.assert_close(made(place, place + 1)[0, 0], expected, atol=1e-6, rtol=0)


def test_as_many_masks_as_there_may_be_are_stopped_within_a_second(small: Classifier) -> None:
    most = RISE_FIELDS["masks"].metadata["max"]
    asked = threading.Event()
    computed: list[float] = []

    def stop() -> None:
        computed.append(time.process_time())
        asked.set()

    threading.Timer(2, stop).start()
    with pytest.raises(Cancelled):
        xai.attribute(small, picture(small), "rise", masks=most, cells=32, run=Run(cancelled=asked.is_set))
    # A second of all threads, in the processor's time: what else the machine does is not counted.
    assert time.process_time() - computed[0] < torch.get_num_threads()


RISE_FIELDS = {each.name: each for each in parameters(METHODS.get("rise").explainer)}


@pytest.mark.parametrize("tolerance", [0, 1, 2, 7, 100, 4096])
def test_the_pointing_game_takes_any_tolerance(tolerance: int) -> None:
    drawn = torch.Generator().manual_seed(1)
    maps, mask = torch.rand(4, 9, 6, generator=drawn), torch.zeros(9, 6)
    mask[6, 1] = 1
    found = pointing(maps, mask, tolerance).values
    top = [divmod(int(each.argmax()), 6) for each in maps]
    assert found.tolist() == [float(max(abs(row - 6), abs(column - 1)) <= tolerance) for row, column in top]
