"""Maps as pictures: every colour worked out by hand or taken from OpenCV itself."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from xai.errors import InputError
from xai.images import render
from xai.images.render import COLORMAPS, Scale, blend, colorize, overlay, scale_of
from xai.types import Attribution, Coverage

UNIT = Scale(0.0, 1.0, "0 to 1")


def attribution(values: torch.Tensor, signed: bool = False, from_lowest: bool = False) -> Attribution:
    return Attribution(
        method="m",
        values=values,
        logits=torch.zeros(len(values), 2),
        target=torch.zeros(len(values), dtype=torch.int64),
        input_size=(4, 4),
        seconds=0.0,
        coverage=Coverage("full"),
        signed=signed,
        facts={},
        provenance={},
        from_lowest=from_lowest,
    )


# Colour maps


def test_jet_is_opencvs_for_every_level() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB)
    assert (colorize(levels / 255.0, UNIT, "jet") == expected).all()


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("jet", (0, 0, 128), (128, 0, 0)),
        ("viridis", (68, 1, 84), (253, 231, 37)),
        ("magma", (0, 0, 4), (252, 253, 191)),
        ("inferno", (0, 0, 4), (252, 255, 164)),
        ("gray", (0, 0, 0), (255, 255, 255)),
    ],
)
def test_published_ends_of_colour_maps(name: str, first: tuple[int, ...], last: tuple[int, ...]) -> None:
    lut = COLORMAPS[name].lut
    assert lut.shape == (256, 3)
    assert tuple(lut[0]) == first
    assert tuple(lut[255]) == last


@pytest.mark.parametrize("name", ["viridis", "magma", "inferno", "cividis", "gray"])
def test_even_colour_maps_only_get_lighter(name: str) -> None:
    light = cv2.cvtColor(COLORMAPS[name].lut[None].astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[0, :, 0]
    assert (np.diff(light) > -0.7).all()  # one 8-bit level of rounding
    assert light[-1] - light[0] > 70


def test_the_diverging_map_is_as_dark_on_both_sides_and_has_a_neutral_middle() -> None:
    colors = COLORMAPS["bluered"]
    lab = cv2.cvtColor(colors.lut[None].astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[0]
    assert colors.kind == "diverging"
    assert np.abs(lab[:, 0] - lab[::-1, 0]).max() < 0.8
    assert len(set(colors.lut[127].tolist())) == 1
    assert (colors.lut[127] == colors.lut[128]).all()
    assert colors.lut[0, 2] > colors.lut[0, 0]  # blue first
    assert colors.lut[255, 0] > colors.lut[255, 2]


def test_tables_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        COLORMAPS["jet"].lut[0, 0] = 1


def test_an_unknown_colour_map_is_refused_with_the_names() -> None:
    with pytest.raises(InputError, match=r"colour map 'hot' is not known; choose from auto, jet, turbo"):
        render.colormap("hot")


def test_auto_looks_at_the_sign() -> None:
    assert render.colors_for("auto", signed=False).name == "jet"
    assert render.colors_for("auto", signed=True).name == "bluered"


@pytest.mark.parametrize("choice", ["auto", *COLORMAPS])
def test_zero_is_white_in_every_signed_map_and_no_other_map_has_a_middle(choice: str) -> None:
    signed, plain = scale_of(np.array([[-2.0, 1.0]]), True), scale_of(np.array([[0.0, 1.0]]), False)
    white = COLORMAPS["bluered"].lut[127]
    against, zero, for_ = colorize(np.array([[-2.0, 0.0, 2.0]]), signed, choice)[0].astype(int)
    assert (zero == white).all()
    assert against[2] - against[0] > 60  # blue
    assert for_[0] - for_[2] > 60  # red
    assert not (colorize(np.array([[0.5]]), plain, choice)[0, 0] == white).all()
    assert render.colors_for(choice, True).kind == "diverging"
    assert render.colors_for(choice, False).kind == "sequential"
    if choice in COLORMAPS:
        kind = COLORMAPS[choice].kind == "diverging"
        assert render.colors_for(choice, kind).name == choice
    drawn = np.asarray(overlay(torch.full((3, 1, 3), 0.5), np.array([[-2.0, 0.0, 2.0]]), signed, choice))[0].astype(int)
    assert np.ptp(drawn[1]) <= 1  # grey: the picture alone
    bar = np.asarray(render.color_bar(signed, choice))[10].astype(int)
    assert (abs(bar[160] - white) <= 2).all()


# Scales


@pytest.mark.parametrize(
    ("values", "signed", "low", "high"),
    [
        ([[1.0, 2.0], [3.0, 4.0]], False, 0.0, 4.0),
        ([[-1.0, 2.0], [3.0, 4.0]], False, -1.0, 4.0),
        ([[-5.0, 2.0], [3.0, 4.0]], True, -5.0, 5.0),
        ([[-5.0, -2.0]], False, -5.0, 0.0),
        ([[2.0, 2.0]], False, 0.0, 2.0),
        ([[1.0, float("nan")], [float("inf"), 3.0]], False, 0.0, 3.0),
    ],
)
def test_scales_by_hand(values: list[list[float]], signed: bool, low: float, high: float) -> None:
    scale = scale_of(torch.tensor(values), signed)
    assert (scale.low, scale.high, scale.signed) == (low, high, signed)


def test_a_scale_is_shared_by_several_maps() -> None:
    scale = scale_of([np.array([[1.0]]), np.array([[-7.0, 2.0]])], signed=True)
    assert (scale.low, scale.high) == (-7.0, 7.0)
    assert scale.sentence == "-7 to 7, zero in the middle (the largest absolute value), shared by 2 maps"


def test_the_percentile_leaves_the_largest_few_out() -> None:
    values = np.zeros((10, 101))
    values[0] = np.arange(101)
    values[1:] = np.arange(101)
    assert scale_of(values, False, percentile=90).high == 90.0
    assert scale_of(-values, True, percentile=90).high == 90.0
    assert scale_of(values, False, 90).sentence == "0 to 90 (90 % of values lie within)"


def test_a_percentile_that_falls_on_zero_takes_the_largest_value() -> None:
    values = np.zeros((100, 100))
    values[0, 0] = 3.0
    assert scale_of(values, False, percentile=99.5).high == 3.0


def test_from_lowest_starts_at_the_smallest_value() -> None:
    scale = scale_of(np.array([[0.3, 0.5]]), signed=False, from_lowest=True)
    assert (scale.low, scale.high) == (0.3, 0.5)
    assert scale.sentence == "0.3 to 0.5 (the smallest and the largest value)"


def test_values_that_are_not_finite_are_counted() -> None:
    assert "; 2 values are not finite" in scale_of(np.array([[1.0, np.nan, np.inf]]), False).sentence
    assert scale_of(np.array([[np.nan]]), False).sentence == "no value can be drawn; 1 value is not finite"


@pytest.mark.parametrize("signed", [False, True])
def test_blank_and_constant_maps_are_drawn_without_division(signed: bool) -> None:
    blank = np.zeros((2, 2))
    scale = scale_of(blank, signed)
    assert scale.sentence == "every value is 0"
    with np.errstate(all="raise"):
        picture = colorize(blank, scale, "bluered" if signed else "gray")
    assert (picture == picture[0, 0]).all()
    assert tuple(picture[0, 0]) == (tuple(COLORMAPS["bluered"].lut[128]) if signed else (0, 0, 0))


@pytest.mark.parametrize("percentile", [0, -1, 100.5])
def test_a_percentile_outside_is_refused(percentile: float) -> None:
    with pytest.raises(InputError, match=r"percentile .* is outside 0 to 100"):
        scale_of(np.ones((2, 2)), False, percentile)


def test_no_map_is_refused() -> None:
    with pytest.raises(InputError, match="there is no map to scale"):
        scale_of([], False)


def test_scale_for_takes_the_percentile_only_at_full_resolution() -> None:
    values = torch.arange(1000.0).repeat(16)[:16].reshape(1, 4, 4)
    assert render.scale_for([attribution(values)]).high == pytest.approx(np.percentile(np.arange(16), 99.5))
    coarse = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
    assert render.scale_for([attribution(coarse)]).high == 3.0


def test_scale_for_is_symmetric_where_one_is_signed_and_from_lowest_where_all_are() -> None:
    plain, signed = attribution(torch.full((1, 2, 2), 2.0)), attribution(torch.full((1, 2, 2), -5.0), signed=True)
    assert render.scale_for([plain, signed]).low == -5.0
    lifted = attribution(torch.tensor([[[1.0, 2.0], [1.0, 2.0]]]), from_lowest=True)
    assert render.scale_for([lifted]).low == 1.0
    assert render.scale_for([lifted, plain]).low == 0.0


# Pictures


def test_colorize_rounds_to_the_nearest_level_and_clips() -> None:
    values = np.array([[-1.0, 0.0, 0.25, 0.5, 1.0, 9.0]])
    # 0.25 * 255 = 63.75 -> 64; 0.5 * 255 = 127.5 -> 128 (to even)
    assert colorize(values, UNIT, "gray")[0, :, 0].tolist() == [0, 0, 64, 128, 255, 255]


def test_colorize_puts_zero_of_a_signed_map_in_the_middle() -> None:
    scale = scale_of(np.array([[-2.0, 0.0, 2.0]]), signed=True)
    picture = colorize(np.array([[-2.0, 0.0, 2.0]]), scale, "bluered")
    lut = COLORMAPS["bluered"].lut
    assert picture[0].tolist() == [lut[0].tolist(), lut[128].tolist(), lut[255].tolist()]


def test_colorize_draws_nan_as_the_start() -> None:
    assert colorize(np.array([[np.nan, 1.0]]), UNIT, "gray")[0, :, 0].tolist() == [0, 255]


def test_colorize_refuses_channels() -> None:
    with pytest.raises(InputError, match=r"the map has shape \(3, 2, 2\); give one value a pixel"):
        colorize(np.zeros((3, 2, 2)), UNIT)


def test_blend_by_hand() -> None:
    picture = np.array([[[100, 0, 255]]], dtype=np.uint8)
    heat = np.array([[[255, 10, 0]]], dtype=np.uint8)
    # 0.4 * 255 + 0.6 * 100 = 162; 0.4 * 10 = 4; 0.6 * 255 = 153
    assert blend(picture, heat, 0.4)[0, 0].tolist() == [162, 4, 153]
    assert (blend(picture, heat, 0.0) == picture).all()
    assert (blend(picture, heat, 1.0) == heat).all()


def test_overlay_is_study_fours_blend_of_jet() -> None:
    picture = Image.fromarray(np.array([[[100, 100, 100], [200, 50, 0]]], dtype=np.uint8))
    mixed = np.asarray(overlay(picture, np.array([[0.0, 1.0]]), UNIT))
    # jet's ends are (0, 0, 128) and (128, 0, 0); 0.4 * 128 = 51.2
    assert mixed[0].tolist() == [[60, 60, 111], [171, 30, 0]]


def test_overlay_takes_the_networks_input_and_resizes_the_map() -> None:
    x = torch.full((3, 4, 4), 0.5)
    scale = Scale(0.0, 3.0, "")
    coarse = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    full = attribution(coarse[None]).maps()[0]
    assert overlay(x, coarse, scale).size == (4, 4)
    assert overlay(x, coarse, scale).tobytes() == overlay(x, full, scale).tobytes()


@pytest.mark.parametrize("pixels", [(-0.2, 0.5), (0.5, 255.0), (float("nan"), 0.5)])
def test_an_overlay_of_pixels_outside_0_to_1_is_refused(pixels: tuple[float, float]) -> None:
    x = torch.tensor(pixels).view(1, 1, 2).expand(3, 1, 2)
    with pytest.raises(InputError, match=r"^the picture's pixels range from .* to .*; give them in \[0, 1\]"):
        overlay(x, np.zeros((1, 2)), UNIT)
    assert overlay(torch.tensor([0.0, 1.0 + 1e-7]).view(1, 1, 2).expand(3, 1, 2), np.zeros((1, 2)), UNIT).size == (2, 1)


def test_a_diverging_overlay_is_printed_on_the_grey_picture() -> None:
    picture = np.array([[[90, 90, 90], [200, 100, 0], [90, 90, 90]]], dtype=np.uint8)
    scale = Scale(-1.0, 1.0, "", signed=True)
    values = np.array([[-1.0, 0.0, 1.0]])
    lut = COLORMAPS["bluered"].lut.astype(float)
    mixed = np.asarray(overlay(Image.fromarray(picture), values, scale, "bluered", 0.4))
    # paper: 0.4 * 255 + 0.6 * 90 = 156; the second pixel's grey is 0.299 * 200 + 0.587 * 100 = 118.5, its paper 173.1
    assert mixed[0, 0].tolist() == np.rint(lut[0] * 156 / 255).astype(int).tolist()
    assert mixed[0, 1].tolist() == np.rint(lut[128] * 173.1 / 255).astype(int).tolist()
    assert mixed[0, 2].tolist() == np.rint(lut[255] * 156 / 255).astype(int).tolist()
    alone = np.asarray(overlay(Image.fromarray(picture), values, scale, "bluered", 1.0))
    assert (alone == render.colorize(values, scale, "bluered")).all()


@pytest.mark.parametrize("opacity", [-0.1, 1.1, float("nan")])
@pytest.mark.parametrize("colors", ["jet", "bluered"])
def test_an_opacity_outside_is_refused(opacity: float, colors: str) -> None:
    with pytest.raises(InputError, match=r"opacity .* is outside 0 to 1"):
        overlay(torch.zeros(3, 2, 2), np.zeros((2, 2)), UNIT, colors, opacity)


def test_blend_refuses_two_sizes() -> None:
    with pytest.raises(InputError, match=r"the picture is \(1, 1\) and the map \(2, 2\)"):
        blend(np.zeros((1, 1, 3), np.uint8), np.zeros((2, 2, 3), np.uint8))


def test_relief_by_hand() -> None:
    values = np.zeros((3, 1, 2))
    values[0, 0] = [2.0, -2.0]
    values[1, 0] = [1.0, 0.0]
    shade = np.asarray(render.relief(values, percentile=100))
    # m = 2: 0.5 + 2/4 = 1, 0.5 + 1/4 = 0.75 -> 191.25, 0.5 -> 127.5 -> 128, 0.5 - 2/4 = 0
    assert shade[0].tolist() == [[255, 191, 128], [0, 128, 128]]


def test_relief_of_zeros_is_grey() -> None:
    assert (np.asarray(render.relief(np.zeros((3, 2, 2)))) == 128).all()


def test_relief_refuses_a_flat_map() -> None:
    with pytest.raises(InputError, match=r"a relief picture needs \(3, H, W\)"):
        render.relief(np.zeros((2, 2)))


def test_the_input_picture_gives_every_level_back() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = np.stack([levels, levels.T, 255 - levels], axis=-1)
    x = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
    assert (np.asarray(render.input_picture(x)) == picture).all()


def test_ticks_are_ends_and_zero_or_the_middle() -> None:
    assert render.ticks(Scale(0.0, 4.0, "")) == ((0.0, "0"), (0.5, "2"), (1.0, "4"))
    assert render.ticks(Scale(-1.0, 3.0, "")) == ((0.0, "-1"), (0.25, "0"), (1.0, "3"))
    assert render.ticks(Scale(0.0, 0.0, "", signed=True)) == ((0.5, "0"),)


def test_a_colour_bar_holds_the_colours_in_order() -> None:
    bar = np.asarray(render.color_bar(Scale(0.0, 1.0, ""), "gray", width=72 + 256))
    assert bar[10, 36 : 36 + 256, 0].tolist() == list(range(256))
    assert (bar[0] == 255).all()
    assert (bar[26:, :, 0] < 128).any()  # the numbers


def test_png_bytes_are_lossless_and_the_same_each_time() -> None:
    picture = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    data = render.png_bytes(picture)
    assert data == render.png_bytes(picture.copy())
    assert Image.open(io.BytesIO(data)).tobytes() == picture.tobytes()


def test_a_mark_covers_a_corner_and_nothing_else() -> None:
    plain = Image.new("RGB", (224, 160), (200, 100, 50))
    marked = np.asarray(render.marked(plain, "random weights"))
    changed = (marked != np.asarray(plain)).any(-1)
    rows, columns = np.nonzero(changed)
    assert rows.max() == 159
    assert columns.min() == 0
    assert rows.min() > 120
    assert columns.max() < 200
    assert marked[changed].min() == 20
    assert marked[changed].max() > 200  # letters on the box
