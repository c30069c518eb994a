"""The shipped photographs: all there, all attributed, small, and called by their names by the default network."""

from __future__ import annotations

import pytest

from xai.data.samples import FOLDER, list_samples, load_sample
from xai.errors import UnknownNameError
from xai.images.decode import SUPPORTED_SUFFIXES
from xai.models.classifier import Classifier


def test_every_picture_is_listed_with_its_licence() -> None:
    files = {path.name for path in FOLDER.iterdir() if path.suffix in SUPPORTED_SUFFIXES}
    assert {sample.path.name for sample in list_samples()} == files
    licences = (FOLDER / "LICENCES.md").read_text(encoding="utf-8")
    for sample in list_samples():
        assert f"`{sample.path.name}`" in licences
        assert sample.source.citation.split(",")[0] in licences
        assert sample.source.link.startswith("https://")
        assert sample.licence in ("CC0", "CC BY 2.0", "public domain")
        if sample.licence == "CC BY 2.0":
            assert sample.source.link in licences


def test_together_they_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1.5e6


@pytest.mark.parametrize("sample", list_samples(), ids=lambda sample: sample.name)
def test_the_default_network_names_it(sample, lite0: Classifier) -> None:
    image = load_sample(sample.name)
    assert image.mode == "RGB"
    assert image.info["notes"] == ()
    best = lite0.top(lite0.predict(lite0.preprocess(image)))[0][0]
    assert best[1] == sample.label


def test_an_unknown_name_gets_near_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"^photograph 'cofee' is not known; did you mean coffee or chelsea\?$"):
        load_sample("cofee")
    with pytest.raises(UnknownNameError, match=r"; choose from chelsea, coffee, rocket, china, flower\.$"):
        load_sample("zzzz")
