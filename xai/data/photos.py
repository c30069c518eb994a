"""The shipped photographs."""

from __future__ import annotations

import dataclasses

from xai.data.folder import open_folder
from xai.data.spec import SAMPLES, DataSet, SampleSpec
from xai.registry import Source
from xai.settings import ASSETS

SOURCE = Source(
    "Photographs that ship with scikit-image and scikit-learn",
    "https://scikit-image.org/docs/stable/api/skimage.data.html",
)


def photos() -> DataSet:
    """The photographs in `assets/samples`, without labels."""
    found = open_folder(ASSETS / "samples", "unlabelled")
    return dataclasses.replace(found, name="photos", source=SOURCE, problems=())  # their licences lie beside them


SAMPLES.add(
    SampleSpec(
        name="photos",
        title="Photographs",
        rank=0,
        source=SOURCE,
        summary="A few photographs of things that ImageNet has a class for.",
        open=photos,
    )
)
