"""DICOM pictures: windows against pydicom's own, frames, inversion, colour, faults, and no patient data."""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from xai.errors import ImageError
from xai.images.decode import load_image


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image)


def notes(image: Image.Image) -> str:
    return "; ".join(image.info["notes"])


def refusal(source: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        load_image(source)
    return str(caught.value)


def dicom(values: np.ndarray, **tags: object) -> bytes:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    file.PatientName = "Doe^Jane"
    file.PatientID = "4711"
    file.Rows, file.Columns = values.shape[-2:] if "SamplesPerPixel" not in tags else values.shape[:2]
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated = file.BitsStored = values.dtype.itemsize * 8
    file.HighBit, file.PixelRepresentation = file.BitsStored - 1, int(values.dtype.kind == "i")
    file.PixelData = values.tobytes()
    for key, value in tags.items():
        setattr(file, key, value)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, file, enforce_file_format=True)
    return buffer.getvalue()


VALUES = np.array([[0, 100, 200, 300], [400, 500, 600, 700]], np.uint16)


def test_dicom_without_a_window_is_stretched() -> None:
    image = load_image(dicom(VALUES))
    np.testing.assert_array_equal(pixels(image)[..., 0], np.rint(VALUES / 700 * 255))
    assert notes(image) == (
        "DICOM picture; nothing about the patient is kept; no window in the file: values 0 to 700 stretched to 0-255"
    )


@pytest.mark.parametrize(
    ("function", "shown"),
    [
        ("LINEAR", lambda x: (x - 239.5) / 399 + 0.5),
        ("LINEAR_EXACT", lambda x: (x - 240) / 400 + 0.5),
        ("SIGMOID", lambda x: 1 / (1 + np.exp(-4 * (x - 240) / 400))),
    ],
)
def test_a_dicom_window_is_that_of_the_standard(function: str, shown: Callable[[np.ndarray], np.ndarray]) -> None:
    """The formulas of DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    data = dicom(
        VALUES.astype(np.int16), WindowCenter=240, WindowWidth=400, RescaleSlope=2, RescaleIntercept=-300,
        VOILUTFunction=function,
    )  # fmt: skip
    image = load_image(data)
    expected = 255 * np.clip(shown(2.0 * VALUES - 300), 0, 1)
    assert np.abs(pixels(image)[..., 0] - expected).max() <= 0.51
    assert f"shown in the file's window, centre 240, width 400 ({function})" in notes(image)


def test_dicom_linear_window_by_hand() -> None:
    # centre 300, width 201: from 199.5 to 399.5; 300 is 100.5 / 200 of the way
    image = load_image(dicom(VALUES, WindowCenter=[300, 0], WindowWidth=[201, 9]))
    assert pixels(image)[..., 0].tolist() == [[0, 0, 1, 128], [255, 255, 255, 255]]


@pytest.mark.parametrize(
    "window",
    [
        {"WindowCenter": 300, "WindowWidth": 0.5},
        {"WindowCenter": 300, "WindowWidth": 0},
        {"WindowCenter": 300, "WindowWidth": 9, "VOILUTFunction": "CUBIC"},
    ],
)
def test_a_dicom_window_that_cannot_be_is_not_used(window: dict[str, object]) -> None:
    image = load_image(dicom(VALUES, **window))
    assert "no valid window in the file: values 0 to 700 stretched to 0-255" in notes(image)


def test_dicom_monochrome1_is_inverted() -> None:
    image = load_image(dicom(VALUES, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(pixels(image)[..., 0], 255 - np.rint(VALUES / 700 * 255))
    assert "MONOCHROME1: inverted, so that more is brighter" in notes(image)


def test_dicom_voi_lut() -> None:
    pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    item = Dataset()
    item.LUTDescriptor = [4, 0, 8]
    item.LUTData = struct.pack("<4H", 0, 10, 20, 255)
    values = np.array([[0, 1, 2, 3]], np.uint16)
    image = load_image(dicom(values, VOILUTSequence=Sequence([item])))
    assert pixels(image)[0, :, 0].tolist() == [0, 10, 20, 255]


def test_dicom_first_frame_and_colour() -> None:
    frames = np.stack([VALUES, VALUES[::-1]])
    image = load_image(dicom(frames, NumberOfFrames=2))
    np.testing.assert_array_equal(pixels(image)[..., 0], np.rint(VALUES / 700 * 255))
    assert "the first of 2 frames is shown" in notes(image)
    rgb = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    image = load_image(dicom(rgb, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0))
    np.testing.assert_array_equal(pixels(image), rgb)


def test_dicom_keeps_nothing_about_the_patient() -> None:
    image = load_image(dicom(VALUES))
    assert set(image.info) == {"notes"}
    assert "Doe" not in notes(image)
    assert "4711" not in notes(image)


def test_dicom_faults() -> None:
    whole = dicom(VALUES)
    assert refusal(whole[:200]) == ("the image is a DICOM file without a picture; choose one that holds an image.")
    assert "whose picture cannot be decoded (transfer syntax Explicit VR Little Endian)" in refusal(whole[:-6])
    assert refusal(dicom(VALUES, Rows=60000, Columns=60000)).startswith("the image has 60000 x 60000 pixels (3600 ")
    deflated = whole.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    assert "is a deflated DICOM file, which is not opened" in refusal(deflated)


def test_dicom_without_pydicom_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert refusal(bytes(128) + b"DICM" + bytes(64)) == (
        "the image is a DICOM file; install pydicom 3 to open it (pip install pydicom)."
    )
