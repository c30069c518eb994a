"""Copies of one picture are found however they were saved, pictures that look alike are not; no set is divided."""

from __future__ import annotations

import io
import time
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from xai.data import DataSet, Item, copies, open_dataset
from xai.data.copies import find_copies, joined
from xai.data.split import divided, stratified_folds, stratified_split
from xai.data.together import Together, find_together
from xai.errors import Cancelled, ImageError, InputError
from xai.types import Run


def items_of(pictures: list[Image.Image]) -> list[Item]:
    return [Item(f"{place}.png", 0, picture.copy) for place, picture in enumerate(pictures)]


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    sink = io.BytesIO()
    picture.save(sink, "JPEG", quality=quality)
    return Image.open(io.BytesIO(sink.getvalue())).convert("RGB")


def cut(picture: Image.Image, share: float) -> Image.Image:
    wide, high = picture.size
    return picture.crop((round(share * wide), 0, wide, round((1 - share) * high)))


CHANGES = {
    "the same": lambda p: p,
    "jpeg 50": lambda p: jpeg(p, 50),
    "half the size": lambda p: p.resize((p.width // 2, p.height // 2)),
    "other proportions": lambda p: p.resize((p.width, round(p.height * 0.9))),
    "brighter": lambda p: ImageEnhance.Brightness(p).enhance(1.2),
    "more contrast": lambda p: ImageEnhance.Contrast(p).enhance(1.3),
    "grey": lambda p: p.convert("L"),
    "cut by 3 % and saved again": lambda p: jpeg(cut(p, 0.03), 60),
}


@pytest.fixture(scope="module")
def slices() -> list[Image.Image]:
    """Drawn brain slices, which are all different and all look alike."""
    return [item.open() for item in open_dataset("sample:brain?yes=12&no=12&size=128").items]


def test_slices_that_look_alike_are_no_copies_and_every_kind_of_copy_is_found(slices):
    assert find_copies(items_of(slices)) == ()
    changed = [change(slices[place]) for place, change in enumerate(CHANGES.values())]
    found = find_copies(items_of([*slices, *changed]))
    assert found == tuple((place, len(slices) + place) for place in range(len(CHANGES)))


def test_photographs_and_their_copies(tmp_path):
    photos = [item.open() for item in open_dataset("sample:photos").items]
    changed = [change(photos[place % len(photos)]) for place, change in enumerate(CHANGES.values())]
    found = find_copies(items_of([*photos, *changed]))
    assert sorted(place for each in found for place in each) == list(range(len(photos) + len(changed)))
    assert [each[0] for each in found] == list(range(len(photos)))


def test_small_pictures_are_copies_only_where_their_pixels_are_equal():
    from sklearn.datasets import load_digits

    digits = [Image.fromarray((16 * each).clip(0, 255).astype(np.uint8)) for each in load_digits().images[:120]]
    assert find_copies(items_of(digits)) == ()
    assert find_copies(items_of([*digits, digits[7]])) == ((7, 120),)


def test_flat_pictures_and_files_that_cannot_be_decoded_are_in_no_set():
    def broken() -> Image.Image:
        raise ImageError("it is damaged.")

    flat = [Image.new("RGB", (40 + place, 40), (place, 0, 0)) for place in range(3)]
    items = [*items_of(flat), Item("x.png", 0, broken), Item("y.png", 0, broken)]
    assert find_copies(items) == ()
    assert find_copies([]) == ()


def noise(count: int) -> list[Image.Image]:
    return [_noise(seed) for seed in range(count)]


def test_progress_goes_on_while_pairs_are_compared_and_a_stop_is_heeded_between_any_two(monkeypatch) -> None:
    told, compared = [], []

    def slow(one: object, two: object) -> float:
        compared.append(one)
        time.sleep(0.02)
        return 0.0

    monkeypatch.setattr(copies, "alike", slow)
    pictures = [Image.blend(noise(1)[0], each, 0.3) for each in noise(40)]  # all are candidates
    assert find_copies(items_of(pictures), Run(on_progress=lambda done, total, _: told.append(done / total))) == ()
    pairs = len(compared)
    assert pairs > 150
    assert told == sorted(told)
    assert told[-1] == 1
    assert len({each for each in told if each > 0.7}) > 20
    compared.clear()
    with pytest.raises(Cancelled):
        find_copies(items_of(pictures), Run(cancelled=lambda: len(compared) > 3))
    assert len(compared) < 3 + 10


def test_a_stop_is_heeded_between_any_two_images() -> None:
    opened: list[int] = []

    def read() -> Image.Image:
        opened.append(1)
        return noise(1)[0]

    with pytest.raises(Cancelled):
        find_copies([Item(f"{n}.png", 0, read) for n in range(30)], Run(cancelled=lambda: len(opened) > 3))
    assert len(opened) < 3 + 10


def test_memory_an_image_is_that_of_its_small_thumbnail(monkeypatch) -> None:
    monkeypatch.setattr(copies, "_ENTRIES", 2**14)  # what does not grow with the images, else more than they take here
    peaks = []
    for count in (300, 900):
        items = [Item(f"{n}.png", 0, partial(_noise, n)) for n in range(count)]
        tracemalloc.start()
        assert find_copies(items) == ()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 600 < 12_000  # bytes


def _noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8))


def test_a_copy_of_a_copy_is_in_the_set():
    assert joined(7, [(5, 3), (3, 1), (6, 2)]) == ((1, 3, 5), (2, 6))


def test_generated_pictures_are_not_looked_at_and_groups_join_copies(tmp_path):
    found = find_together(open_dataset("sample:brain?yes=2&no=2&size=32"))
    assert (found.copies, found.looked) == ((), False)
    data = data_of(6)
    both = Together((("0/0.png", "0/1.png"),), (("0/1.png", "0/2.png"), ("0/4.png", "0/5.png"))).mark(data)
    assert [item.together for item in both.items] == ["0/0.png"] * 3 + [""] + ["0/4.png"] * 2
    assert Together.of(Together((("a", "b"),), told="x", looked=True).plain()) == Together((("a", "b"),), (), "x", True)


# --- splits that leave sets whole -------------------------------------------------------------------------------------


def data_of(*counts: int, sets: list[list[int]] | None = None) -> DataSet:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    name = {place: f"set{number}" for number, each in enumerate(sets or []) for place in each}
    items = tuple(
        Item(f"{label}/{place}.png", label, Image.Image, together=name.get(place, ""))
        for place, label in enumerate(labels)
    )
    return DataSet("made", "class folders", items, tuple(f"class{k}" for k in range(len(counts))))


def counts_of(data: DataSet, places: tuple[int, ...]) -> list[int]:
    return [sum(data.items[place].label == label for place in places) for label in range(len(data.classes))]


@pytest.mark.parametrize("seed", range(6))
def test_no_set_is_divided_and_classes_keep_their_shares(seed):
    sets = [[0, 1, 2], [5, 6], [40, 41], [45, 70], list(range(80, 90))]
    data = data_of(60, 40, sets=sets)
    split = stratified_split(data, 0.8, seed)
    assert divided(data, (split.train, split.validation)) == ()
    assert sorted(split.train + split.validation) == list(range(100))
    assert counts_of(data, split.train) in ([48, 32], [48, 30])  # ten of class 1 do not fit into the 8 that validate
    assert split == stratified_split(data, 0.8, seed)
    every = stratified_folds(data, 5, seed)
    assert sorted(place for fold in every for place in fold.validation) == list(range(100))
    for fold in every:
        assert divided(data, (fold.train, fold.validation)) == ()
        assert all(
            abs(count - mean) <= 2 for count, mean in zip(counts_of(data, fold.validation), (12, 8), strict=True)
        )


def test_without_sets_the_split_is_what_it_always_was():
    plain, marked = data_of(30, 20), data_of(30, 20, sets=[[3], [9]])
    assert stratified_split(plain, 0.8, 3) == stratified_split(marked, 0.8, 3)
    assert stratified_folds(plain, 5, 3) == stratified_folds(marked, 5, 3)


def test_patients_are_whole_on_one_side():
    patients = [list(range(20 * k, 20 * k + 20)) for k in range(10)]
    data = data_of(100, 100, sets=patients)
    for seed in range(4):
        split = stratified_split(data, 0.8, seed)
        assert counts_of(data, split.validation) == [20, 20]
        assert divided(data, (split.train, split.validation)) == ()
    assert [counts_of(data, fold.validation) for fold in stratified_folds(data, 5, 0)] == [[20, 20]] * 5


def test_a_class_that_cannot_be_divided_is_refused():
    whole = data_of(4, 4, sets=[[0, 1, 2, 3]])
    with pytest.raises(
        InputError, match=r"^too many images of class 'class0' belong together .* to be divided; add oth"
    ):
        stratified_split(whole, 0.5, 0)
    with pytest.raises(
        InputError, match=r"^too many images of class 'class0' belong together .* for 2 folds; ask for f"
    ):
        stratified_folds(whole, 2, 0)
    # Where moving the smallest set helps, it is moved: the large set fills neither side alone.
    for seed in range(6):
        data = data_of(5, 6, sets=[[0, 1, 2, 3]])
        split = stratified_split(data, 0.8, seed)
        assert min(counts_of(data, split.train) + counts_of(data, split.validation)) >= 1


def test_divided_names_the_images_that_a_given_split_has_on_both_sides(tmp_path: Path):
    data = data_of(6, sets=[[0, 4], [1, 2]])
    assert divided(data, ((0, 1, 2), (3, 4, 5))) == (0, 4)
