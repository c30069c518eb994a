"""Pictures from people: every mode, every fault, and what is said about them."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit.image_helpers import colours, encoded
from xai.errors import ImageError
from xai.images.decode import load_image
from xai.images.pixels import WORKING_SIDE

ROOT = Path(__file__).resolve().parents[3]


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image)


def notes(image: Image.Image) -> str:
    assert isinstance(image.info["notes"], tuple)
    assert set(image.info) == {"notes"}  # no EXIF, no profile, no text of the file goes on
    return "; ".join(image.info["notes"])


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_keep_every_pixel_and_have_nothing_to_say(kind: str) -> None:
    image = load_image(encoded(colours(), kind))
    np.testing.assert_array_equal(pixels(image), np.asarray(colours()))
    assert notes(image) == ""


def test_lossless_webp_keeps_every_pixel() -> None:
    image = load_image(encoded(colours(), "WEBP", lossless=True))
    np.testing.assert_array_equal(pixels(image), np.asarray(colours()))


def test_jpeg_is_what_pillow_decodes() -> None:
    data = encoded(colours(), "JPEG", quality=95)
    np.testing.assert_array_equal(pixels(load_image(data)), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_gif_gives_its_first_frame_and_says_so() -> None:
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    image = load_image(encoded(first, "GIF", save_all=True, append_images=[second]))
    assert pixels(image)[4, 4].tolist() == [255, 0, 0]
    assert notes(image) == "the first frame of several is shown"
    assert notes(load_image(encoded(first, "GIF"))) == ""


def test_sources_path_string_bytes_and_open_file_agree(tmp_path: Path) -> None:
    data = encoded(colours(), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    opened = io.BytesIO(data)
    opened.read()  # a file that was read before is read again from its start
    for source in (path, str(path), data, opened):
        np.testing.assert_array_equal(pixels(load_image(source)), np.asarray(colours()))
    with path.open("rb") as file:
        np.testing.assert_array_equal(pixels(load_image(file)), np.asarray(colours()))


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "really_a_jpeg.png"
    path.write_bytes(encoded(colours(), "JPEG", quality=95))
    assert load_image(path).size == (16, 12)


# --- bit depths and modes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_stretched_from_lowest_to_highest_and_says_so(kind: str) -> None:
    values = np.array([[212, 1137], [2061, 3910]], np.uint16)
    image = load_image(encoded(Image.fromarray(values), kind))
    # (v - 212) / 3698 * 255 by hand: 0, 63.78, 127.50 (127.4986...), 255
    expected = np.array([[0, 64], [127, 255]])
    np.testing.assert_array_equal(pixels(image), np.repeat(expected[..., None], 3, axis=2))
    assert notes(image) == "16-bit values 212 to 3910 stretched to 0-255"


def test_big_endian_16_bit_tiff() -> None:
    data = encoded(Image.fromarray(np.array([[0, 500], [1000, 1000]], ">u2")), "TIFF")
    assert data[:2] == b"MM"
    assert pixels(load_image(data))[..., 0].tolist() == [[0, 128], [255, 255]]


def test_32_bit_and_float_tiff_are_stretched() -> None:
    whole = load_image(encoded(Image.fromarray(np.array([[-100000, 0], [50000, 100000]], np.int32)), "TIFF"))
    assert pixels(whole)[..., 0].tolist() == [[0, 128], [191, 255]]
    assert notes(whole) == "whole values -100000 to 100000 stretched to 0-255"
    real = load_image(encoded(Image.fromarray(np.array([[0.25, 0.5], [0.75, 1.25]], np.float32)), "TIFF"))
    assert pixels(real)[..., 0].tolist() == [[0, 64], [128, 255]]
    assert notes(real) == "float values 0.25 to 1.25 stretched to 0-255"


def test_float_tiff_with_holes_says_how_many() -> None:
    values = np.array([[np.nan, 1.0], [np.inf, 3.0]], np.float32)
    image = load_image(encoded(Image.fromarray(values), "TIFF"))
    assert pixels(image)[..., 0].tolist() == [[0, 0], [0, 255]]
    assert notes(image).startswith("2 pixels that are not finite numbers are shown as black; float values 1 to 3")
    with pytest.raises(ImageError, match="holds no finite value"):
        load_image(encoded(Image.fromarray(np.full((2, 2), np.nan, np.float32)), "TIFF"))


def test_a_constant_16_bit_image_is_black_and_says_its_value() -> None:
    image = load_image(encoded(Image.fromarray(np.full((3, 3), 700, np.uint16)), "PNG"))
    assert pixels(image).max() == 0
    assert notes(image) == "every pixel has the value 700; shown as black"


def png_16(array: np.ndarray, colour_type: int) -> bytes:
    """A PNG of 16 bits a channel, which Pillow cannot write: (h,w,c) uint16."""
    height, width = array.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )


def test_16_bit_colour_png_uses_the_upper_bits_and_says_so() -> None:
    array = np.array([[[0x1234, 0xFF00, 0x00FF], [0xABCD, 0, 0xFFFF]]], np.uint16)
    image = load_image(png_16(array, 2))
    np.testing.assert_array_equal(pixels(image), (array >> 8).astype(np.uint8))
    assert notes(image) == "16 bits a channel, of which the upper 8 are used"


def test_16_bit_colour_tiff_uses_the_upper_bits_and_says_so() -> None:
    array = np.array([[[0x1234, 0xFF00, 0x00FF], [0xABCD, 0, 0xFFFF]]], np.uint16)
    body = array.astype("<u2").tobytes()
    entries = [(256, 3, 1, 2), (257, 3, 1, 1), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 14)]
    entries += [(277, 3, 1, 3), (278, 3, 1, 1), (279, 4, 1, len(body))]
    # header 0-7, BitsPerSample 8-13, pixels 14-25, directory at 26
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries) + bytes(4)
    data = b"II*\0" + struct.pack("<I", 14 + len(body)) + struct.pack("<HHH", 16, 16, 16) + body + directory
    image = load_image(data)
    np.testing.assert_array_equal(pixels(image), (array >> 8).astype(np.uint8))
    assert notes(image) == "16 bits a channel, of which the upper 8 are used"


def test_grey_and_one_bit_become_three_equal_channels() -> None:
    grey = Image.fromarray(np.array([[0, 77], [150, 255]], np.uint8))
    assert pixels(load_image(encoded(grey, "PNG")))[..., 1].tolist() == [[0, 77], [150, 255]]
    one = Image.fromarray(np.array([[True, False], [False, True]]))
    assert pixels(load_image(encoded(one, "PNG"))).tolist() == [[[255] * 3, [0] * 3], [[0] * 3, [255] * 3]]


def test_palette_without_transparency() -> None:
    image = load_image(encoded(colours().quantize(8), "PNG"))
    np.testing.assert_array_equal(pixels(image), np.asarray(colours()))
    assert notes(image) == ""


def test_palette_with_transparency_is_put_on_white() -> None:
    palette = colours().quantize(8)
    red = int(np.asarray(palette)[0, 0])
    image = load_image(encoded(palette, "PNG", transparency=red))
    assert pixels(image)[0, 0].tolist() == [255, 255, 255]
    assert pixels(image)[0, 15].tolist() == [0, 255, 0]
    assert notes(image) == "transparent parts are shown on white"


def test_alpha_is_composited_on_white() -> None:
    array = np.zeros((2, 2, 4), np.uint8)
    array[..., 3] = [[0, 51], [255, 102]]  # black at alpha 0, 0.2, 1, 0.4 on white: 255, 204, 0, 153
    image = load_image(encoded(Image.fromarray(array), "PNG"))
    assert pixels(image)[..., 0].tolist() == [[255, 204], [0, 153]]
    assert notes(image) == "transparent parts are shown on white"
    array[..., 3] = 255
    assert notes(load_image(encoded(Image.fromarray(array), "PNG"))) == ""


def test_grey_with_alpha() -> None:
    array = np.array([[[100, 255], [100, 0]]], np.uint8)
    assert pixels(load_image(encoded(Image.fromarray(array, "LA"), "PNG")))[0, :, 0].tolist() == [100, 255]


def test_cmyk_jpeg_with_and_without_adobes_marker() -> None:
    inks = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan, full magenta and yellow: red
    data = encoded(inks, "JPEG", quality=100)
    image = load_image(data)
    assert np.abs(pixels(image).astype(int) - (255, 0, 0)).max() <= 2
    assert notes(image) == "CMYK inks turned into RGB without a colour profile"
    start = data.index(b"\xff\xee")  # APP14, Adobe
    bare = data[:start] + data[start + 2 + struct.unpack(">H", data[start + 2 : start + 4])[0] :]
    image = load_image(bare)  # the stored bytes are 255 - ink; taken as they stand: full cyan, no key
    assert np.abs(pixels(image).astype(int) - (0, 0, 0)).max() <= 2  # 255 cyan and 255 key
    assert notes(image).startswith("CMYK without Adobe's marker: inks taken as stored, not inverted; ")


def test_cmyk_tiff() -> None:
    image = load_image(encoded(Image.new("CMYK", (4, 4), (255, 0, 255, 0)), "TIFF"))
    assert pixels(image)[0, 0].tolist() == [0, 255, 0]


def test_lab_tiff() -> None:
    # sRGB red is about L 54, a 81, b 70 under D50; Pillow holds L / 100 * 255, a + 128, b + 128.
    image = load_image(encoded(Image.new("LAB", (4, 4), (138, 209, 198)), "TIFF"))
    assert np.abs(pixels(image)[0, 0].astype(int) - (255, 0, 0)).max() <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_brings_the_picture_upright(orientation: int, kind: str) -> None:
    upright = np.asarray(colours())
    # How a camera held that way stores it: the inverse of what a viewer has to do.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif.tobytes(), **({"lossless": True} if kind == "WEBP" else {})}
    image = load_image(encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, **options))
    np.testing.assert_array_equal(pixels(image), upright)
    assert notes(image) == ("" if orientation == 1 else f"turned upright (EXIF orientation {orientation})")


def test_a_large_jpeg_is_reduced_and_the_note_gives_the_upright_size() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Camera"
    image = load_image(encoded(Image.new("RGB", (5000, 2500), (10, 200, 30)), "JPEG", exif=exif.tobytes()))
    assert image.size == (1024, 2048)
    assert notes(image) == "turned upright (EXIF orientation 6); 2500 x 5000 pixels reduced to 1024 x 2048"


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "I;16"])
def test_every_mode_is_reduced_to_the_working_side(mode: str) -> None:
    size = (3 * WORKING_SIDE // 2, 60)
    image = (
        Image.fromarray(np.tile(np.arange(size[0], dtype=np.uint16), (60, 1)))
        if mode == "I;16"
        else Image.new("RGB", size, "white").convert(mode)
    )
    loaded = load_image(encoded(image, "PNG"))
    assert loaded.size == (WORKING_SIDE, 40)
    assert notes(loaded).endswith("3072 x 60 pixels reduced to 2048 x 40")
    if mode == "I;16":  # the values in the note are those of the file, not of the reduced picture
        assert notes(loaded).startswith("16-bit values 0 to 3071 stretched")


def test_an_image_at_the_working_side_is_untouched() -> None:
    assert notes(load_image(encoded(Image.new("RGB", (WORKING_SIDE, 4)), "PNG"))) == ""
