"""Several people on one classifier at once: every map is bit for bit that of the serial run; nothing is left behind."""

from __future__ import annotations

import dataclasses
import random
import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import xai
from tests.conftest import make_tiny
from xai.explain.spec import METHODS
from xai.models.classifier import Classifier
from xai.types import Run

CHEAP = {"masks": 24, "channels": 6, "steps": 4, "samples": 3, "stride": 32}
THREADS = 4


@pytest.fixture(autouse=True)
def _one_torch_thread() -> Iterator[None]:
    """Sums split over another number of threads round differently, which is not what is tested here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


Job = tuple[str, int]


def explained(classifier: Classifier, pictures: Tensor, job: Job) -> Tensor:
    name, index = job
    fields = dataclasses.fields(METHODS.get(name).explainer)  # type: ignore[arg-type]
    params = {field.name: CHEAP[field.name] for field in fields if field.name in CHEAP}
    return xai.attribute(classifier, pictures[index : index + 1], name, targets=index, **params).values


def applicable(classifier: Classifier) -> list[str]:
    return [name for name in METHODS.names() if xai.applicability(classifier, name).status != "refused"]


def wrong_maps(classifier: Classifier, pictures: Tensor, jobs: list[Job]) -> list[str]:
    """Each thread does all jobs in its own order; those whose map differs from the serial one, and what was raised."""
    expected = {job: explained(classifier, pictures, job) for job in jobs}
    start = threading.Barrier(THREADS)
    wrong: list[str] = []
    done: list[Job] = []

    def person(number: int) -> None:
        mine = random.Random(number).sample(jobs, len(jobs))
        start.wait(30)
        for job in mine:
            try:
                if not torch.equal(explained(classifier, pictures, job), expected[job]):
                    wrong.append(f"{job} differs")
            except Exception as error:
                wrong.append(f"{job} raised {error!r}")
            done.append(job)

    threads = [threading.Thread(target=person, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert len(done) == THREADS * len(jobs)
    return wrong


def test_every_method_beside_every_other_on_one_tiny_network() -> None:
    classifier = make_tiny()
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    jobs = [(name, index) for name in applicable(classifier) for index in range(2)]
    assert len(jobs) >= 30
    assert wrong_maps(classifier, pictures, jobs) == []


def test_methods_that_reach_inside_on_one_real_network(lite0: Classifier, cat: Tensor) -> None:
    small = torch.nn.functional.interpolate(cat, (96, 96), mode="bilinear")
    pictures = torch.cat([small, small.flip(3)])
    names = ("gradcam", "layercam", "guided_backprop", "deconvnet", "saliency", "guided_gradcam", "eigencam")
    assert wrong_maps(lite0, pictures, [(name, index) for name in names for index in range(2)]) == []


def test_looking_at_layers_beside_explanations() -> None:
    """`layers()` traces with hooks; asked for the first time by all at once it stays right."""
    classifier = make_tiny()
    expected = make_tiny().layers()
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found: list[object] = []

    def person() -> None:
        found.append(classifier.layers())
        xai.attribute(classifier, x, "gradcam")

    threads = [threading.Thread(target=person) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [expected] * THREADS


def test_one_persons_cancel_does_not_touch_the_others() -> None:
    classifier = make_tiny()
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = xai.attribute(classifier, x, "gradcam", 1).values
    outcome: list[object] = []

    def stopped() -> None:
        for _ in range(20):
            try:
                xai.attribute(classifier, x, "rise", 1, run=Run(cancelled=lambda: True))
            except xai.errors.Cancelled as error:
                outcome.append(error)

    thread = threading.Thread(target=stopped)
    thread.start()
    maps = [xai.attribute(classifier, x, "gradcam", 1).values for _ in range(20)]
    thread.join(60)
    assert len(outcome) == 20
    assert all(torch.equal(each, expected) for each in maps)
