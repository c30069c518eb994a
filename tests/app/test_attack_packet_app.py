"""What the epsilon slider is given: the very levels of the attacked picture, and maps as they are drawn elsewhere."""

from __future__ import annotations

import dataclasses
import io
import json
import shlex
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from xai.bundles.attacks import entry, scale, smallest_text
from xai.cli import main
from xai.images.render import PIXEL_PERCENTILE
from xai.types import Run
from xai.ui.adversarial_attack import packet as attack_packet
from xai.ui.adversarial_attack.packet import sweep_packet
from xai.ui.adversarial_attack.state import Found, Plan, Request, bundle, command, from_query
from xai.ui.work import Net, Scene, samples


def found(plan: Plan, net: Net = Net("simple_cnn", "random:0")) -> Found:  # noqa: B008 (it is frozen)
    """A study at three positions of the slider."""
    request = Request(Scene(samples()["coffee"], "crop", net), plan, None, (0, 16, 32))
    classifier = request.scene.net.load()
    x = request.scene.tensor(classifier)
    study = plan.study(classifier, x, None, request.places, run=Run())
    return Found(request, study, classifier.labels, classifier.title, classifier.random)


def opened(made: Found) -> tuple[dict[str, Any], bytes]:
    data = sweep_packet(made)
    size = int.from_bytes(data[:4], "little")
    return json.loads(data[4 : 4 + size]), data[4 + size :]


def picture(body: bytes, at: list[int]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(body[at[0] : at[0] + at[1]]))).astype(int)


def test_a_change_of_more_than_127_levels_arrives() -> None:
    made = found(Plan(attack="fgsm", reach=1.0))
    head, body = opened(made)
    clean = picture(body, head["clean"]["at"])
    assert head["frames"][2]["largest"] > 127
    for frame, result in zip(head["frames"], made.study.attacked, strict=True):
        moved = (clean + picture(body, frame["change"]) - 128) % 256  # as the browser adds them
        assert (moved == result.levels[0].permute(1, 2, 0).numpy()).all()


def test_the_noisy_pictures_arrive_and_what_is_alike_is_sent_once() -> None:
    made = found(Plan(attack="fgsm"))
    head, body = opened(made)
    clean = picture(body, head["clean"]["at"])
    for frame, noisy in zip(head["frames"], made.study.noisy[:, 0], strict=True):
        shown = (clean + picture(body, frame["noisy"]) - 128) % 256
        assert (shown == np.rint(255 * noisy.permute(1, 2, 0).numpy())).all()
    assert head["frames"][0]["noisy"] == head["frames"][0]["change"]  # at epsilon 0 neither changes anything
    assert (picture(body, head["frames"][1]["noisy"]) != 128).any()


def test_noise_that_falls_short_is_said_beside_what_it_does() -> None:
    made = found(Plan(attack="fgsm", norm="l2"))
    assert opened(made)[0]["short"] == ""
    norms = {**made.study.norms, "noise": 0.5 * made.study.norms["attack"]}
    short = dataclasses.replace(made, study=dataclasses.replace(made.study, norms=norms))
    head, _ = opened(short)
    assert head["short"].startswith("The noise is weaker than the attack at 2 of 3 epsilons: ")
    assert head["protocol"] == f"{made.study.protocol.sentence} {head['short']}"


def test_the_command_over_a_set_gives_the_bytes_of_each_picture_alone(tmp_path: Path) -> None:
    made = found(Plan(steps=2))
    choice = from_query({"model": made.request.scene.net.text, "steps": "2"})
    photos = [samples()[name] for name in ("rocket", "coffee")]  # not in its place among others
    words = shlex.split(command(choice, None, photos, made.request.places))[3:]
    assert main([*words, "--device", "cpu", "--out", str(tmp_path)]) == 0
    archive = zipfile.ZipFile(io.BytesIO(bundle(made, samples()["coffee"], "")))
    names = [name for name in archive.namelist() if name != "manifest.json"]
    assert len(names) > 8
    for name in names:
        assert archive.read(name) == (tmp_path / name).read_bytes(), name


def test_page_and_terminal_give_the_same_numbers_at_the_same_epsilon(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The terminal over more positions than the page: an epsilon's numbers do not hang on the others."""
    made = found(Plan(steps=2), Net("efficientnet_lite0"))
    words = shlex.split(command(from_query({"steps": "2"}), None, places=(0, 4, 8, 16, 32)))[3:]
    assert main([*words, "--device", "cpu", "--json", "--out", str(tmp_path)]) == 0
    [image] = json.loads(capsys.readouterr().out)["images"]
    told = {round(row["epsilon"] * 255, 3): row for row in image["epsilons"]}
    assert len(told) == 5
    for row in entry(made.study, made.classifier(), "", "")["epsilons"]:
        other = told[round(row["epsilon"] * 255, 3)]
        for name, value in row.items():
            if isinstance(value, float):
                assert other[name] == pytest.approx(value, abs=2e-3 * max(1.0, abs(value))), name
            else:
                assert other[name] == value, name
    smallest = smallest_text(float(made.study.smallest), "linf")
    assert image["smallest_epsilon_text"] == smallest
    assert smallest.endswith("/255 or less")
    head, _ = opened(made)
    assert head["answer"].startswith(f"An epsilon of {smallest} changes the class.")
    assert image["answer"] == head["answer"]
    for frame, place in zip(head["frames"], (0, 3, 4), strict=True):
        row = image["epsilons"][place]
        assert frame["top"][0]["label"] == row["predicted"]
        assert frame["distance"]["linf"] == pytest.approx(row["linf"], abs=1e-6)
        assert list(tmp_path.rglob(f"{frame['file']}.png"))


def test_fine_maps_keep_their_steps_below_an_outlier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attack_packet, "SMALL", 0)
    made = found(Plan(attack="fgsm", method="saliency"))
    head, body = opened(made)
    maps = head["maps"]["old"]
    [at, size] = maps["at"]["attack"]
    steps = np.frombuffer(body[at : at + size], np.int8).reshape(3, maps["h"], maps["w"])
    for place in range(3):
        three = torch.stack([getattr(made.study.maps["old"], who)[place, 0] for who in ("clean", "attack", "noise")])
        end = float(np.percentile(three.numpy(), PIXEL_PERCENTILE))
        assert maps["scales"][place]["high"] == pytest.approx(end)
        drawn = steps[place] * maps["reach"][place] / 127
        assert np.abs(drawn - three[1].numpy().clip(max=end)).max() <= 0.51 * end / 127


def test_maps_without_a_zero_are_drawn_from_their_lowest_value() -> None:
    study = found(Plan(attack="fgsm")).study
    maps = dataclasses.replace(study.maps["old"], clean=study.maps["old"].clean + 3, attack=study.maps["old"].clean + 4)
    study = dataclasses.replace(study, maps={"old": maps}, method="rise")
    assert scale(study, "old", 0).low == pytest.approx(float(maps.clean[0].min()))
