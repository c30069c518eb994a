"""Bundles: every file as the manifest says, the same bytes each time, a report that needs nothing from outside."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
import shlex
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import make_tiny
from xai.bundles.explanations import Bad, Bundle, Look, Subject, bundle_zip, write_explanations, zip_folder
from xai.errors import Cancelled, InputError
from xai.images import render
from xai.models.classifier import Classifier
from xai.studies.comparison import Tile, compare


@pytest.fixture(scope="module")
def subject(tiny: Classifier) -> Subject:
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2)).mul(255).round() / 255
    tiles = compare([tiny], x, ["gradcam", "inputxgradient", "rise"], params={"rise": {"masks": 4}}, seed=7).tiles
    refused = Tile(tiny, "deconvnet", x, None, "It does not apply here.", refused=True)
    return Subject("cat.png", "pets/cat.png", "ab" * 32, (80, 70), (*tiles, refused), notes=("made upright",))


def unpack(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def explanations(manifest: dict[str, Any], image: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = manifest["images"][image]["models"][0]["explanations"]
    return found


def test_the_zip_holds_what_the_manifest_lists_and_nothing_else(subject: Subject) -> None:
    files = unpack(bundle_zip([subject]))
    manifest = json.loads(files["manifest.json"])
    assert set(files) == {*manifest["files"], "manifest.json"}
    assert list(files)[-1] == "manifest.json"
    for path, facts in manifest["files"].items():
        assert facts == {"sha256": hashlib.sha256(files[path]).hexdigest(), "bytes": len(files[path])}
    folder = "cat/tiny-random-0"
    kinds = (".npy", ".map.png", ".overlay.png", ".scale.png")
    assert {path for path in files if path.startswith(folder)} == {
        f"{folder}/input.png",
        *(f"{folder}/{method}{kind}" for method in ("gradcam", "inputxgradient", "rise") for kind in kinds),
        f"{folder}/inputxgradient.relief.png",
    }


def test_arrays_are_the_values_at_their_own_resolution(subject: Subject) -> None:
    files = unpack(bundle_zip([subject]))
    shapes = []
    for tile, entry in zip(subject.tiles, explanations(json.loads(files["manifest.json"])), strict=True):
        if tile.attribution is None:
            continue
        values = np.load(io.BytesIO(files[entry["files"]["array"]]), allow_pickle=False)
        assert values.dtype == np.float32
        assert np.array_equal(values, tile.attribution.values[0].numpy())
        assert list(values.shape) == entry["shape"]
        shapes.append(values.shape)
    assert shapes == [(16, 16), (3, 64, 64), (64, 64)]


def test_pictures_are_the_renderers(subject: Subject) -> None:
    files = unpack(bundle_zip([subject], Bundle(Look("turbo", 0.7))))
    entry = explanations(json.loads(files["manifest.json"]))[0]
    found = subject.tiles[0].attribution
    assert found is not None
    scale = render.scale_for([found])
    seen = render.input_picture(subject.tiles[0].x[0])
    expected = render.marked(render.overlay(seen, found.maps()[0], scale, "turbo", 0.7), "random weights")
    assert Image.open(io.BytesIO(files[entry["files"]["overlay"]])).tobytes() == expected.tobytes()
    heat = render.colorize(found.maps()[0], scale, "turbo")
    assert (np.asarray(Image.open(io.BytesIO(files[entry["files"]["map"]]))) == heat).all()
    network = Image.open(io.BytesIO(files["cat/tiny-random-0/input.png"]))
    assert (np.asarray(network) == (subject.tiles[0].x[0] * 255).round().permute(1, 2, 0).numpy()).all()


def test_the_manifest_tells_everything(subject: Subject, tiny: Classifier) -> None:
    manifest = json.loads(
        unpack(bundle_zip([subject], Bundle(command="the command", created="today")))["manifest.json"]
    )
    image = manifest["images"][0]
    assert (manifest["complete"], manifest["command"], manifest["created"]) == (True, "the command", "today")
    assert set(manifest["versions"]) == {"olhar", "python", "torch", "torchvision"}
    assert (image["sha256"], image["size"], image["view"], image["notes"]) == (
        "ab" * 32,
        [80, 70],
        "crop",
        ["made upright"],
    )
    model = image["models"][0]
    assert (model["fingerprint"], model["weights"], model["random"]) == (tiny.fingerprint, "random:0", True)
    logits = tiny.predict(subject.tiles[0].x)[0].double().softmax(-1)
    assert [each["index"] for each in model["predictions"]] == logits.argsort(descending=True).tolist()
    assert [each["probability"] for each in model["predictions"]] == pytest.approx(
        sorted(logits.tolist(), reverse=True)
    )
    assert model["predictions"][0]["name"] == tiny.labels[int(logits.argmax())]
    gradcam, _, rise, refused = model["explanations"]
    assert gradcam["coverage"] == {"status": "full", "sentence": "16 x 16 cells at relu2"}
    assert (gradcam["params"], gradcam["seed"], gradcam["target"]["index"]) == (
        {"layer": "relu2"},
        7,
        int(logits.argmax()),
    )
    assert gradcam["scale"]["sentence"].endswith("(the largest value)")
    assert gradcam["paper"]["link"].startswith("https://")
    assert gradcam["seconds"] > 0
    assert rise["params"]["masks"] == 4
    assert (refused["status"], refused["reason"]) == ("refused", "It does not apply here.")


def test_the_command_names_every_choice(subject: Subject) -> None:
    manifest = json.loads(unpack(bundle_zip([subject], Bundle(Look("turbo", 0.25, shared=True))))["manifest.json"])
    target = explanations(manifest)[2]["target"]["index"]
    assert (
        shlex.split(explanations(manifest)[2]["command"])
        == (
            "python -m xai explain pets/cat.png --model tiny --weights random:0 --method rise "
            f"--target {target} --view crop --seed 7 --device cpu --param rise.masks=4 --colormap turbo --opacity 0.25 "
            "--shared-scale --out DIR"
        ).split()
    )


def test_a_weights_file_keeps_its_folder_in_the_command(subject: Subject, tiny: Classifier) -> None:
    bundle = Bundle(weights={tiny.fingerprint: "file:/models/a b.pth"})
    manifest = json.loads(unpack(bundle_zip([subject], bundle))["manifest.json"])
    assert "--weights 'file:/models/a b.pth' --method" in explanations(manifest)[0]["command"]


def test_the_same_tiles_give_the_same_bytes(subject: Subject) -> None:
    assert bundle_zip([subject]) == bundle_zip([subject])
    with zipfile.ZipFile(io.BytesIO(bundle_zip([subject]))) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_folder_holds_the_zips_files(subject: Subject, tmp_path: Path) -> None:
    manifest = write_explanations(tmp_path / "out", [subject, Bad("x.png", "not an image.")])
    written = {
        str(p.relative_to(tmp_path / "out")): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()
    }
    packed = bundle_zip([subject, Bad("x.png", "not an image.")])
    assert written == unpack(packed)
    assert json.loads(written["manifest.json"]) == manifest
    assert manifest["bad"] == [{"source": "x.png", "reason": "not an image."}]
    assert zip_folder(tmp_path / "out", manifest).read_bytes() == packed


def test_a_shared_scale_is_one_for_the_maps_in_one_unit(subject: Subject, tiny: Classifier) -> None:
    names = ["gradcam", "inputxgradient", "integrated_gradients", "saliency"]
    tiles = compare([tiny], subject.tiles[0].x, names, targets=2, params={"integrated_gradients": {"steps": 4}}).tiles
    several = dataclasses.replace(subject, tiles=tiles)
    own = [e["scale"] for e in explanations(json.loads(unpack(bundle_zip([several]))["manifest.json"]))]
    shared = explanations(json.loads(unpack(bundle_zip([several], Bundle(Look(shared=True))))["manifest.json"]))
    scales = [each["scale"] for each in shared]
    assert len({json.dumps(each) for each in own}) == 4
    assert scales[1] == scales[2]  # both in logits a pixel
    assert scales[1]["sentence"].endswith("shared by 2 maps")
    assert scales[1]["high"] == pytest.approx(max(own[1]["high"], own[2]["high"]), rel=0.2)
    assert [scales[0], scales[3]] == [own[0], own[3]]  # in units of their own
    assert {each["colormap"] for each in shared[1:3]} == {"bluered"}


def test_names_never_collide_and_never_leave_the_folder(subject: Subject, tmp_path: Path) -> None:
    names = ["a/cat.png", "b/CAT.jpg", "../../cat.gif", ".png", "con.png"]
    subjects = [dataclasses.replace(subject, name=name) for name in names]
    manifest = write_explanations(tmp_path / "out", subjects)
    assert [each["folder"] for each in manifest["images"]] == ["cat", "CAT-2", "cat-3", "png", "con_"]
    assert {p.name for p in tmp_path.iterdir()} == {"out"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        *("cat", "CAT-2", "cat-3", "png", "con_"),
        *("manifest.json", "report.html"),
    }


def test_one_method_for_two_classes_and_two_weights_of_one_network(tiny: Classifier, subject: Subject) -> None:
    x, other = subject.tiles[0].x, make_tiny(seed=1)
    tiles = [*compare([tiny], x, ["gradcam"], targets=0).tiles, *compare([tiny], x, ["gradcam"], targets=1).tiles]
    tiles += compare([other], x, ["gradcam"]).tiles
    manifest = json.loads(unpack(bundle_zip([dataclasses.replace(subject, tiles=tuple(tiles))]))["manifest.json"])
    arrays = [e["files"]["array"] for model in manifest["images"][0]["models"] for e in model["explanations"]]
    assert arrays == [
        "cat/tiny-random-0/gradcam.npy",
        "cat/tiny-random-0/gradcam-2.npy",
        "cat/tiny-random-1/gradcam.npy",
    ]
    assert [e["target"]["index"] for e in explanations(manifest)] == [0, 1]


def test_an_image_of_a_batch_gets_its_own_facts(tiny: Classifier, subject: Subject) -> None:
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    tiles = compare([tiny], x, ["gradcam"], targets=[0, 1]).tiles
    found = tiles[0].attribution
    assert found is not None
    tile = dataclasses.replace(
        tiles[0], attribution=dataclasses.replace(found, facts={**found.facts, "ratio": float("nan"), "words": "ab"})
    )
    files = unpack(bundle_zip([dataclasses.replace(subject, tiles=(tile,), index=1)]))
    entry = explanations(json.loads(files["manifest.json"]))[0]
    assert entry["target"]["index"] == 1
    assert entry["facts"]["highest"] == found.facts["highest"][1]
    assert (entry["facts"]["ratio"], entry["facts"]["words"]) == ("nan", "ab")
    assert np.array_equal(np.load(io.BytesIO(files[entry["files"]["array"]])), found.values[1].numpy())


def test_an_interruption_leaves_a_manifest_of_what_was_finished(subject: Subject, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("an older one")

    def coming() -> Iterator[Subject]:
        assert not (tmp_path / "manifest.json").exists()  # it would describe files that are about to change
        yield subject
        raise Cancelled("cancelled.")

    with pytest.raises(Cancelled):
        write_explanations(tmp_path, coming())
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["complete"], len(manifest["images"])) == (False, 1)
    for path, facts in manifest["files"].items():
        assert hashlib.sha256((tmp_path / path).read_bytes()).hexdigest() == facts["sha256"]
    assert "The work was stopped before its end" in (tmp_path / "report.html").read_text()


def test_a_folder_that_cannot_be_made_is_refused(subject: Subject, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"the folder .*file/out cannot be made \(Not a directory\)"):
        write_explanations(tmp_path / "file" / "out", [subject])


@pytest.mark.parametrize(("look", "told"), [({"colors": "hot"}, "colour map 'hot'"), ({"opacity": 2}, "opacity 2")])
def test_a_look_that_cannot_be_drawn_is_refused(look: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Look(**look)


# The report


class Page(HTMLParser):
    """What a page loads, links to, and says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page(subjects: list[Subject | Bad], **bundle: Any) -> tuple[str, Page]:
    html = unpack(bundle_zip(subjects, Bundle(**bundle)))["report.html"].decode()
    return html, Page(html)


def test_the_report_loads_nothing_from_outside(subject: Subject) -> None:
    html, parsed = page([subject])
    assert not {tag for tag, _ in parsed.tags} & {
        "link",
        "script",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
        "video",
    }
    sources = [attrs["src"] or "" for _, attrs in parsed.tags if "src" in attrs]
    assert len(sources) > 10
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"url\(|@import|srcset|\son\w+=", html)
    assert {tag for tag, attrs in parsed.tags if "href" in attrs} == {"a"}
    policy = next(
        attrs["content"] for tag, attrs in parsed.tags if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert "prefers-color-scheme: dark" in html


def test_the_report_says_what_the_manifest_says(subject: Subject) -> None:
    html, parsed = page([subject, Bad("x.png", "not an image.")], command="python -m xai explain cat", created="today")
    for words in (
        "cat.png",
        "80 x 70 px, seen as the centre crop",
        "made upright",
        "These weights are random",
        "Grad-CAM",
        "Selvaraju et al., Grad-CAM, ICCV 2017",
        "16 x 16 cells at relu2",
        "It does not apply here.",
        "A random estimate",  # RISE's caution
        "python -m xai explain pets/cat.png --model tiny",
        "x.png: not an image.",
        "1 image, 3 explanations. Made on today.",
    ):
        assert words in parsed.text, words
    assert all(attrs.get("alt") for tag, attrs in parsed.tags if tag == "img")
    assert re.findall("<h4>(.*?)</h4>", html) == [tile.title for tile in subject.tiles]


def test_names_cannot_put_anything_into_the_report(subject: Subject) -> None:
    evil = '<img src="http://evil.example/x" onerror="alert(1)">.png'
    tile = dataclasses.replace(subject.tiles[-1], sentence="<script>alert(2)</script>")
    hostile = dataclasses.replace(subject, name=evil, source=evil, tiles=(*subject.tiles[:1], tile), notes=("<b>",))
    html, parsed = page([hostile, Bad(evil, evil)], command=evil)
    assert evil not in html
    assert "script" not in {tag for tag, _ in parsed.tags}
    assert all((attrs["src"] or "").startswith("data:") for _, attrs in parsed.tags if "src" in attrs)
    assert evil in parsed.text  # it is shown as text


def test_a_name_that_is_not_unicode_is_kept_as_an_escape(subject: Subject) -> None:
    files = unpack(bundle_zip([dataclasses.replace(subject, name="caf\udce9.png", source="caf\udce9.png")]))
    assert json.loads(files["manifest.json"])["images"][0]["source"] == "caf\udce9.png"
    assert files["report.html"].decode()


def test_a_blank_map_says_why(tiny: Classifier, subject: Subject) -> None:
    found = subject.tiles[0].attribution
    assert found is not None
    blank = dataclasses.replace(
        found, values=torch.zeros_like(found.values), facts={"blank": ["Blank because nothing speaks for it."]}
    )
    tile = dataclasses.replace(subject.tiles[0], attribution=blank)
    _, parsed = page([dataclasses.replace(subject, tiles=(tile,))])
    assert "Blank because nothing speaks for it." in parsed.text
    assert "Colour relief" not in parsed.text  # no tile has one


def test_a_long_bundle_reports_its_first_images_and_says_so(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xai.bundles.report.LIMIT", 2)
    small = dataclasses.replace(subject, tiles=subject.tiles[:1])
    files = unpack(bundle_zip([small, small, small]))
    assert len(json.loads(files["manifest.json"])["images"]) == 3
    text = Page(files["report.html"].decode()).text
    assert "This page shows the first 2 of 3 images; all are in the folder." in text
