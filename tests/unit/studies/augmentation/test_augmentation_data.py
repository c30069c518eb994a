"""The pictures of the augmentation study: who sees what, what is generated, and what is refused."""

import dataclasses
import math
import shutil

import numpy as np
import pytest
import torch

from tests.unit.augmentation_helpers import CLASSES, generator, shares_of
from xai.data.call import open_dataset
from xai.data.drawn.bench import _sampled
from xai.errors import InputError
from xai.gan.images import split_places
from xai.gan.saved import load_generator
from xai.studies.augmentation import data as _augmentation_data
from xai.studies.augmentation.data import (
    _refuse_doubles,
    check_generators,
    enlarged,
    read_shares,
    real_share,
    synthesise,
    synthetic_labels,
)
from xai.types import Run


def test_the_pool_is_what_the_generator_saw_and_the_others_it_did_not(data, made):
    opened, shares = shares_of(data, made)
    seen = {opened.items[place].key for place in split_places(opened, 0.6, 3)[0]}
    assert set(shares.pool.keys) == seen
    assert not seen & (set(shares.validation.keys) | set(shares.test.keys))
    assert not set(shares.validation.keys) & set(shares.test.keys)
    parts = (shares.pool, shares.validation, shares.test)
    assert sorted(key for part in parts for key in part.keys) == sorted(item.key for item in opened.items)
    assert "have the fingerprint" in shares.unseen


def test_generators_of_one_class_each_have_seen_what_each_of_them_saw(data, tmp_path):
    paths = [generator(data, tmp_path / f"{name}.safetensors", only=name) for name in CLASSES]
    _, shares = shares_of(data, *paths)
    assert len(shares.pool.keys) == 3 * 7
    generators = [load_generator(path) for path in paths]
    assert check_generators(generators, CLASSES) == 32
    images = synthesise(generators, CLASSES, torch.tensor([2, 0, 1]), None, Run())
    assert images.labels.tolist() == [2, 0, 1]
    with pytest.raises(InputError, match="no generator draws class 'washer'"):
        check_generators(generators[:2], CLASSES)


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (
            {"data_fingerprint": "0" * 16},
            "the generator was trained on .* whether it saw the test images cannot be told",
        ),
        ({"train_fingerprint": "0" * 16}, "the data has changed since, so which images it saw cannot be told"),
        ({"split_seed": 4}, "the data has changed since"),
    ],
)
def test_a_generator_that_may_have_seen_the_test_images_is_refused(data, tmp_path, facts, told):
    with pytest.raises(InputError, match=told):
        shares_of(data, generator(data, tmp_path / "g.safetensors", **facts))


def test_pixels_that_changed_after_the_training_are_noticed(data, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(data, copy)
    path = generator(copy, tmp_path / "g.safetensors")
    opened, shares = shares_of(copy, path)
    victim = copy / shares.pool.keys[0]
    content = victim.read_bytes()
    victim.write_bytes((copy / shares.test.keys[0]).read_bytes())
    changed = victim.stat().st_size != len(content)  # then the fingerprint of the data set tells already
    told = "trained on" if changed else "the data has changed since"
    with pytest.raises(InputError, match=told):
        shares_of(copy, path)
    assert opened.classes == CLASSES


def test_a_test_image_that_is_also_a_training_image_is_refused(data, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(data, copy)
    opened = open_dataset(copy)
    train, rest = split_places(opened, 0.6, 3)
    source = next(opened.items[i].key for i in train if opened.items[i].label == 0)
    for place in rest:
        if opened.items[place].label == 0:
            shutil.copy(copy / source, copy / opened.items[place].key)
    path = generator(copy, tmp_path / "g.safetensors")
    with pytest.raises(InputError, match=r"the test image bolt/.* equals the (training|validation) image bolt/"):
        shares_of(copy, path)


def test_a_validation_image_that_is_also_a_training_image_is_refused(data):
    _, shares = shares_of(data)
    images = shares.validation.images.clone()
    images[2] = shares.pool.images[5]
    twin = dataclasses.replace(shares.validation, images=images)
    keys = shares.validation.keys[2], shares.pool.keys[5]
    with pytest.raises(InputError, match=f"the validation image {keys[0]} equals the training image {keys[1]}, pixel"):
        _refuse_doubles(shares.pool, twin, shares.test)


def test_nothing_left_to_test_on_is_said(data):
    opened = open_dataset(data)
    with pytest.raises(InputError, match="the images that no generator saw cannot be split"):
        read_shares(opened, [], 32, 0.95, 0, 0.4, Run())


def test_shares_of_the_real_images_lie_within_one_another_and_keep_the_classes(data, made):
    _, shares = shares_of(data, made)
    sets = [real_share(shares.pool, percent, Run(seed=1)) for percent in (10, 50, 100)]
    assert [torch.bincount(each.labels).tolist() for each in sets] == [[1, 1, 1], [4, 4, 4], [8, 7, 7]]
    pixels = [{image.numpy().tobytes() for image in each.pixels} for each in sets]
    assert pixels[0] < pixels[1] < pixels[2]


def test_fewer_generated_images_are_the_beginning_of_more(data, made):
    real = torch.tensor([0] * 6 + [1] * 3 + [2] * 3)
    labels = synthetic_labels(real, 24, Run(seed=2))
    assert torch.bincount(labels).tolist() == [12, 6, 6]
    assert torch.equal(synthetic_labels(real, 7, Run(seed=2)), labels[:7])
    generators = [load_generator(made)]
    many = synthesise(generators, CLASSES, labels, None, Run(seed=2))
    few = synthesise(generators, CLASSES, labels[:7], None, Run(seed=2))
    assert torch.equal(many.pixels[:7], few.pixels)
    other = synthesise(generators, CLASSES, labels[:7], None, Run(seed=3))
    assert not torch.equal(other.pixels, few.pixels)


def test_truncation_comes_to_the_latent(data, made, monkeypatch):
    seen = []
    real = _augmentation_data.generate
    monkeypatch.setattr(_augmentation_data, "generate", lambda g, z, y, run: seen.append(z) or real(g, z, y, run))
    synthesise([load_generator(made)], CLASSES, torch.arange(3).repeat(40), 0.5, Run())
    z = torch.cat(seen)
    assert float(z.abs().max()) <= 0.5
    # the standard deviation of a normal cut off at 0.5: sqrt(1 - 2 * .5 * pdf(.5) / P(|z| < .5))
    expected = math.sqrt(1 - 2 * 0.5 * math.exp(-0.125) / math.sqrt(2 * math.pi) / math.erf(0.5 / math.sqrt(2)))
    assert float(z.std()) == pytest.approx(expected, rel=0.05)


def test_images_are_enlarged_as_levels():
    pixels = torch.full((1, 3, 4, 4), 77, dtype=torch.uint8)
    assert torch.equal(enlarged(pixels, 8), torch.full((1, 3, 8, 8), 77, dtype=torch.uint8))
    assert enlarged(pixels, 4) is pixels


def test_masks_of_drawn_pictures_are_those_of_the_size_that_is_studied():
    opened = open_dataset("sample:parts?size=96&count=4")
    shares = read_shares(opened, [], 32, 0.5, 0, 0.5, Run())
    masks = shares.masks(opened, [0, 3])
    wanted = [opened.items[[i.key for i in opened.items].index(shares.test.keys[place])] for place in (0, 3)]
    for mask, image, item in zip(masks, shares.test.images[[0, 3]], wanted, strict=True):
        picture, outline = dataclasses.replace(item.open, size=32).arrays()
        assert torch.equal(mask, torch.from_numpy(outline > 127))
        assert torch.equal(image, torch.from_numpy(picture).permute(2, 0, 1))


def test_a_part_that_fills_the_picture_can_be_drawn():
    grain = np.random.default_rng(0).random((64, 64), np.float32)
    at = np.random.default_rng(1).random((70_001, 2), np.float32) * 90
    found = _sampled(grain, at)
    parts = [_sampled(grain, at[start : start + 7_000]) for start in range(0, len(at), 7_000)]
    assert np.array_equal(found, np.concatenate(parts))
