"""Files that are no pictures, broken, or too large: one sentence each, before anything is decoded."""

from __future__ import annotations

import io
import os
import random
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, TiffImagePlugin

from tests.unit.image_helpers import colours, encoded
from xai.errors import ImageError
from xai.images import decode as images
from xai.images.decode import SUPPORTED_SUFFIXES, image_digest, load_image
from xai.images.pixels import WORKING_SIDE

ROOT = Path(__file__).resolve().parents[3]


def refusal(source: object) -> str:
    with pytest.raises(ImageError) as caught:
        load_image(source)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith((".", ")."))
    return text


def test_missing_file_folder_and_empty_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.png") == "no.png does not exist; check the path."
    (tmp_path / "photos").mkdir()
    assert refusal(tmp_path / "photos") == "photos is a folder; give one image file."
    (tmp_path / "void.png").touch()
    assert refusal(tmp_path / "void.png") == "void.png is empty (0 bytes); choose another file."
    assert refusal(b"") == "the image is empty (0 bytes); choose another file."
    assert refusal("a\0b.png").startswith("a?b.png ")
    os.mkfifo(tmp_path / "pipe.png")
    assert refusal(tmp_path / "pipe.png") == "pipe.png is not a regular file; give one image file."


def test_a_text_renamed_to_png(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("dear diary")
    assert refusal(tmp_path / "notes.png") == (
        "notes.png is not an image that can be read here; use PNG, JPEG, WebP, BMP, TIFF, GIF or DICOM."
    )


def test_decoders_outside_the_list_are_out_of_reach() -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    assert "is not an image that can be read here" in refusal(postscript)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("keep", [0.02, 0.5, 0.9])
def test_truncated_files_are_one_sentence(kind: str, keep: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, kind)
    text = refusal(data[: max(14, int(len(data) * keep))])
    assert text.startswith("the image is a damaged ")
    assert text.endswith(" file that ends too early; save or download it again.") or text.endswith(
        " file that cannot be decoded; save or download it again."
    )


def test_a_truncated_jpeg_says_that_it_ends_too_early() -> None:
    data = (ROOT / "assets" / "samples" / "rocket.jpg").read_bytes()
    assert refusal(data[: len(data) // 2]) == (
        "the image is a damaged JPEG file that ends too early; save or download it again."
    )


def test_a_png_damaged_inside_is_not_half_a_picture() -> None:
    data = bytearray((ROOT / "assets" / "samples" / "chelsea.png").read_bytes())
    data[5000:5100] = bytes(100)
    assert refusal(bytes(data)) == (
        "the image is a damaged PNG file that cannot be decoded; save or download it again."
    )


def test_bytes_changed_at_random_give_a_picture_or_one_sentence() -> None:
    draw = random.Random(0)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8))
    files = [encoded(noise, kind) for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP")]
    files.append(encoded(noise.quantize(16), "PNG", transparency=3))
    refused = 0
    for _ in range(600):
        data = bytearray(draw.choice(files))
        for _ in range(draw.choice((1, 4))):
            data[draw.randrange(min(len(data), draw.choice((60, 10_000))))] = draw.randrange(256)
        try:
            assert load_image(bytes(data)).mode == "RGB"
        except ImageError:
            refused += 1
    assert 100 < refused < 500


def bomb(width: int, height: int) -> bytes:
    """A 1-bit PNG of any size whose rows compress to almost nothing."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks
    )


@pytest.mark.parametrize(("width", "height", "millions"), [(20000, 20000, 400), (10000, 10000, 100), (8001, 8000, 64)])
def test_too_many_pixels_are_refused_before_decoding(
    width: int, height: int, millions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bomb(width, height)
    assert len(data) < 60_000

    def never(_self: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", never)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow warns above 89 and raises above 179 megapixels: neither may surface
        assert refusal(data) == (
            f"the image has {width} x {height} pixels ({millions} megapixels); "
            "at most 64 can be opened, so make it smaller first."
        )


def test_the_largest_allowed_picture_is_opened_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = load_image(bomb(8000, 8000))
    assert image.size == (WORKING_SIDE, WORKING_SIDE)


def test_a_gif_whose_frame_is_larger_than_its_canvas() -> None:
    data = bytearray(encoded(Image.new("P", (4, 4)), "GIF"))
    at = data.index(b"\x2c")
    data[at + 5 : at + 9] = struct.pack("<HH", 65535, 65535)
    assert refusal(bytes(data)) == (
        "the image has more than the 64 megapixels that can be opened; make it smaller first."
    )


def test_too_many_bytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(images, "MAX_UPLOAD_BYTES", 2 * 2**20)
    sentence = " is larger than 2 MB, the most that is read; save it smaller or compressed."
    assert refusal(bytes(2 * 2**20 + 1)) == "the image" + sentence
    (tmp_path / "big.png").write_bytes(bytes(2 * 2**20 + 1))
    assert refusal(tmp_path / "big.png") == "big.png" + sentence
    assert refusal(io.BytesIO(bytes(2 * 2**20 + 1))) == "the image" + sentence


def test_other_sources_are_refused() -> None:
    assert refusal(7) == "an image is a path, bytes or an open file, not a int."
    assert refusal(io.StringIO("x")) == "the image was opened as text; open it in binary mode."


def test_names_from_people_only_show_their_last_part() -> None:
    file = io.BytesIO(b"text")
    file.name = "../../etc/\x1b[31mpass\nwd.png"
    assert refusal(file).startswith("?[31mpass?wd.png is not an image")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_does_not_matter() -> None:
    data = encoded(colours(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert load_image(data).size == (16, 12)


def test_many_threads_at_once_and_no_global_of_pillow_is_touched() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, len(warnings.filters))
    files = [encoded(colours().resize((40 + i, 30)), "PNG") for i in range(6)]
    expected = [np.asarray(load_image(data)) for data in files]
    wrong: list[int] = []

    def work() -> None:
        for _ in range(10):
            wrong.extend(i for i, data in enumerate(files) if not np.array_equal(load_image(data), expected[i]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, len(warnings.filters)) == before


def test_digest_is_sha256() -> None:
    assert image_digest(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_suffixes() -> None:
    assert {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".dcm"} == set(SUPPORTED_SUFFIXES)
    assert TiffImagePlugin.READ_LIBTIFF is False  # the module's switches are Pillow's own
