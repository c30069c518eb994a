"""The drawn characters: head, hair and face stay, clothes and places change, and what hides them is not theirs."""

from __future__ import annotations

import numpy as np

from xai.data import open_dataset
from xai.data.drawn.canvas import Canvas
from xai.data.drawn.cartoon import CAST, HEADS, draw_character, draw_pose
from xai.data.drawn.staging import OUTFITS, OWN_OUTFIT, TURN, draw_front, dressed, passer_by
from xai.data.drawn.synthetic import render_arrays


def test_colours_do_not_name_a_character() -> None:
    """The nearest class by the mean colour of the figure, each picture judged by the others: little better than 1/10.

    In clothes of their own colours it finds every second one.
    """
    found = render_arrays(open_dataset("sample:characters?size=32&count=12"), 32)
    colour = np.array(
        [
            image[mask].mean(0) if mask.any() else np.zeros(3)
            for image, mask in zip(found.images, found.masks, strict=True)
        ]
    )
    right = 0
    for place, label in enumerate(found.labels):
        others = np.arange(len(colour)) != place
        centres = [colour[others & (found.labels == k)].mean(0) for k in range(len(CAST))]
        right += int(np.linalg.norm(centres - colour[place], axis=1).argmin() == label)
    assert right / len(colour) < 0.4


def test_who_it_is_stays_and_what_it_wears_changes() -> None:
    rng = np.random.default_rng(0)
    who = CAST[4]
    drawn = [dressed(rng, who) for _ in range(200)]
    for name in ("name", "head", "wide", "hair", "eyes", "nose", "extra"):
        assert {getattr(each, name) for each in drawn} == {getattr(who, name)}
    assert {each.outfit for each in drawn} == set(OUTFITS)
    own = np.mean([(each.outfit, each.shirt, each.legs) == (who.outfit, who.shirt, who.legs) for each in drawn])
    assert abs(own - OWN_OUTFIT) < 0.1
    assert len({each.hair_colour for each in drawn}) > 100
    assert 0 < TURN < 0.15  # a hue a sixth of the circle away is another colour's name
    assert all(passer_by(rng).hair == "none" and passer_by(rng).head in HEADS for _ in range(20))
    assert "none" not in {each.hair for each in CAST}


def test_what_stands_in_front_is_not_in_the_mask() -> None:
    hidden = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        picture = np.full((96, 96, 3), 255, np.uint8)
        canvas = Canvas(picture, (48.0, 40.0), 30.0, 0.0, False)
        draw_character(canvas, CAST[0], draw_pose(rng))
        before, mask = picture.copy(), canvas.mask.copy()
        draw_front(rng, canvas)
        changed = (picture != before).any(2)
        assert not canvas.mask[changed].any()
        assert np.array_equal(canvas.mask[~changed], mask[~changed])
        hidden += int(changed.any())
    assert 5 < hidden < 28
