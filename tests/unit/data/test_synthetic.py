"""Generated data sets: the same pictures everywhere and every time, masks that fit, counts, marks, parameters."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xai.data import SAMPLES, open_dataset
from xai.data.drawn.synthetic import Drawing, clouds, render_arrays, smoothstep
from xai.errors import Cancelled, InputError, UnknownNameError
from xai.types import Run

ROOT = Path(__file__).resolve().parents[3]

OURS = {
    "parts": (300,) * 10,
    "brain": (98, 155),
    "characters": (80,) * 10,
}
"""Images of each class, as the studies have them."""


def some(name: str) -> list[int]:
    """One place of each class."""
    data = open_dataset(f"sample:{name}")
    return [next(i for i, item in enumerate(data.items) if item.label == k) for k in range(len(data.classes))]


@pytest.mark.parametrize("name", OURS)
def test_counts_and_marks(name: str) -> None:
    data = open_dataset(f"sample:{name}")
    assert tuple(data.counts.values()) == OURS[name]
    assert data.synthetic
    assert SAMPLES.get(name).synthetic
    assert data.layout == "class folders"
    assert data.source is not None
    assert data.source.citation.startswith("Drawn by Olhar")
    assert len({item.key for item in data.items}) == len(data)
    assert all(item.key.startswith(f"{data.classes[item.label]}/") for item in data.items if item.label is not None)
    assert data.name == name


@pytest.mark.parametrize("name", OURS)
def test_an_image_depends_on_seed_class_and_index_alone(name: str) -> None:
    data = open_dataset(f"sample:{name}")
    place = some(name)[-1] + 2
    first = np.asarray(data.items[place].open())
    again = pickle.loads(pickle.dumps(open_dataset(f"sample:{name}").items[place]))
    assert np.array_equal(first, np.asarray(again.open()))
    assert not np.array_equal(first, np.asarray(data.items[place - 1].open()))
    other = open_dataset(f"sample:{name}?seed=1")
    assert not np.array_equal(first, np.asarray(other.items[place].open()))
    assert data.fingerprint == open_dataset(f"sample:{name}?seed=0").fingerprint
    assert data.fingerprint != other.fingerprint
    assert other.name == f"{name}?seed=1"


def test_another_process_draws_the_same() -> None:
    told = "import hashlib\nfrom xai.data import open_dataset\n"
    for name in OURS:
        told += f"print(hashlib.sha256(open_dataset('sample:{name}').items[3].open().tobytes()).hexdigest())\n"
    seen = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    drawn = [open_dataset(f"sample:{name}").items[3].open().tobytes() for name in OURS]
    assert seen.split() == [hashlib.sha256(each).hexdigest() for each in drawn]


@pytest.mark.parametrize("name", OURS)
def test_masks_fit_their_pictures(name: str) -> None:
    data = open_dataset(f"sample:{name}")
    for place in some(name):
        item = data.items[place]
        assert item.open_mask is not None
        image, mask = item.open(), item.open_mask()
        assert (image.mode, mask.mode) == ("RGB", "L")
        assert image.size == mask.size
        levels = np.asarray(mask)
        assert set(np.unique(levels)) <= {0, 255}
        assert np.asarray(image).std() > 8  # it shows something


@pytest.mark.parametrize("name", OURS)
def test_a_thing_differs_from_its_surroundings_where_the_mask_says(name: str) -> None:
    """Without the thing the picture would be another one inside the mask: colours there are not those around it."""
    data = open_dataset(f"sample:{name}")
    apart = []
    for place in some(name):
        item = data.items[place]
        mask = np.asarray(item.open_mask()) > 127
        image = np.asarray(item.open()).astype(float)
        if mask.any() and not mask.all():
            inside, outside = image[mask], image[~mask]
            apart.append(np.abs(inside.mean(0) - outside.mean(0)).max() + abs(inside.std() - outside.std()))
    assert np.median(apart) > 10


def test_arrays_are_what_the_items_open() -> None:
    data = open_dataset("sample:parts?size=32&count=2")
    assert data.name == "parts?count=2&size=32"
    assert len(data) == 20
    told: list[int] = []
    run = Run(on_progress=lambda done, total, note: told.append(done))
    found = render_arrays(data, 32, (3, 0), run)
    assert told == [1, 2]
    assert found.labels.tolist() == [1, 0]
    for row, place in enumerate((3, 0)):
        assert np.array_equal(found.images[row], np.asarray(data.items[place].open()))
        assert np.array_equal(found.masks[row], np.asarray(data.items[place].open_mask()) > 127)
    larger = render_arrays(data, 64, (3,))
    assert larger.images.shape == (1, 64, 64, 3)
    # The same scene: the mask at twice the size, made smaller again, is the mask.
    halved = larger.masks[0].reshape(32, 2, 32, 2).mean((1, 3)) > 0.5
    assert (halved == found.masks[0]).mean() > 0.97
    with pytest.raises(Cancelled):
        render_arrays(data, 32, run=Run(cancelled=lambda: True))
    with pytest.raises(
        InputError, match=r"^photos is not generated, so it cannot be drawn; open its images instead\.$"
    ):
        render_arrays(open_dataset("sample:photos"), 32)


def test_every_part_has_its_own_shape() -> None:
    """A washer and a nut have a hole, a spring has many; a plate is nearly convex, a clamp is not."""
    import cv2

    data = open_dataset("sample:parts?size=96&count=8")
    holes, solidity = {}, {}
    for label, name in enumerate(data.classes):
        masks = render_arrays(data, 96, [i for i, item in enumerate(data.items) if item.label == label]).masks
        counts, filled = [], []
        for mask in masks:
            lines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            outer = max(lines, key=cv2.contourArea)
            whole = np.zeros(mask.shape, np.uint8)
            cv2.drawContours(whole, [outer], -1, 1, -1)
            counts.append((whole.sum() - (mask & (whole > 0)).sum()) / whole.sum())
            filled.append(cv2.contourArea(outer) / cv2.contourArea(cv2.convexHull(outer)))
        holes[name], solidity[name] = float(np.median(counts)), float(np.median(filled))
    assert holes["washer"] > 0.1
    assert min(holes["washer"], holes["nut"]) > holes["screw"]
    assert solidity["clamp"] < solidity["jaw plate"]
    assert solidity["washer"] > 0.9


def test_only_slices_with_a_tumour_have_a_mask_and_sizes_are_mixed() -> None:
    data = open_dataset("sample:brain?size=64&yes=30&no=10")
    assert data.classes == ("no", "yes")
    places, shares, sizes = [], [], set()
    for item in data.items:
        image, mask = np.asarray(item.open()), np.asarray(item.open_mask()) > 127
        assert np.array_equal(image[..., 0], image[..., 2])  # grey
        assert mask.any() == (item.label == 1)
        sizes.add(image.shape)
        if mask.any():
            shares.append(mask.mean())
            places.append(np.argwhere(mask).mean(0) / mask.shape)
    assert len(sizes) > 6
    assert max(shares) / min(shares) > 5
    assert np.std([x for _, x in places]) > 0.1
    assert min(x for _, x in places) < 0.4 < 0.6 < max(x for _, x in places)  # both halves of the brain


def test_a_tumour_shows_but_does_not_give_itself_away_by_brightness() -> None:
    """The same head with and without: inside the mask it differs, and neither mean nor maximum of a slice tells."""
    from xai.data.drawn.slice import scan

    data = open_dataset("sample:brain?size=64&yes=40&no=40")
    found = render_arrays(data, 64)
    for statistic in (lambda image: image.mean(), lambda image: np.quantile(image, 0.99)):
        values = np.array([statistic(image) for image in found.images])
        above = (values[found.labels == 1][:, None] > values[found.labels == 0][None, :]).mean()
        assert 0.3 < above < 0.75  # the area under the ROC curve of that statistic alone
    image, mask = scan(np.random.default_rng(5), (80, 64), tumour_there=True)
    assert image.shape == (80, 64, 3)
    assert mask.shape == (80, 64)


def test_parameters_are_checked() -> None:
    with pytest.raises(InputError, match=r"^sample 'parts' has no parameter 'sed'; it has seed, count, size\.$"):
        open_dataset("sample:parts?sed=1")
    with pytest.raises(InputError, match=r"^sample 'photos' has no parameter 'seed'; it has none\.$"):
        open_dataset("sample:photos?seed=1")
    with pytest.raises(InputError, match=r"^sample 'parts': seed is 'x'; give a whole number\.$"):
        open_dataset("sample:parts?seed=x")
    with pytest.raises(InputError, match=r"^size is 5; give 16 to 1024\.$"):
        open_dataset("sample:parts?size=5")
    with pytest.raises(InputError, match=r"^count is 0; give 1 to 5000\.$"):
        open_dataset("sample:parts?count=0")
    with pytest.raises(UnknownNameError, match=r"did you mean parts"):
        open_dataset("sample:part?seed=1")


def test_clouds_and_steps() -> None:
    assert smoothstep(0, 2, 1) == 0.5
    assert smoothstep(0, 1, np.array([-1.0, 0.25, 3])).tolist() == [0, 0.15625, 1]  # t²(3 - 2t) at 1/4
    drawn = clouds(np.random.default_rng(0), 64)
    assert drawn.shape == (64, 64)
    assert drawn.dtype == np.float32
    assert abs(np.diff(drawn, axis=0)).mean() < drawn.std() / 3  # smooth: neighbours are alike


def test_a_drawing_names_its_function() -> None:
    """Two data sets with one seed must not share random numbers."""

    def other(rng: np.random.Generator, label: int, size: int):
        return rng.integers(0, 255, (size, size, 3)).astype(np.uint8), np.zeros((size, size), np.uint8)

    def another(rng: np.random.Generator, label: int, size: int):
        return other(rng, label, size)

    assert not np.array_equal(Drawing(other, 0, 0, 0, 8).arrays()[0], Drawing(another, 0, 0, 0, 8).arrays()[0])


def test_a_command_takes_a_generated_sample_with_its_parameters() -> None:
    from xai.commands._images import _samples

    found = list(_samples("sample:brain?size=32&yes=2&no=1"))
    keys = ("no/0000.png", "yes/0000.png", "yes/0001.png")
    assert [source for source, _ in found] == [f"sample:brain?size=32&yes=2&no=1/{key}" for key in keys]
    (one,) = _samples("sample:brain?size=32&yes=2&no=1/yes/0001.png")
    assert one[0].endswith("/yes/0001.png")
