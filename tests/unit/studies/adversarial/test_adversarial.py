"""The epsilon study: identity at 0, controls of equal norm, shifts by hand, and the real network turned."""

from __future__ import annotations

import dataclasses
import itertools
import math
import pickle
from dataclasses import dataclass
from typing import Literal

import pytest
import torch
from torch import Tensor

from tests.unit.attack_helpers import certain, short_of_memory
from xai import load_image
from xai.attacks import attack
from xai.attacks.fgsm import FGSM
from xai.attacks.pgd import PGD
from xai.attacks.spec import Attack, Moved
from xai.bundles.attacks import answer, entry, file_stem, image_files, smallest_text
from xai.errors import Cancelled, InputError, LayerError, NotApplicableError
from xai.metrics.distance import image_distance
from xai.metrics.shift import SHIFTS, explanation_shift
from xai.models.classifier import Classifier, InputModel
from xai.settings import ASSETS
from xai.studies.adversarial import study as adversarial
from xai.studies.adversarial.study import (
    POSITIONS,
    epsilon_study,
    noise_of_equal_norm,
    security_curve,
    smallest_epsilon,
    study_passes,
)
from xai.types import Run


def images(count: int = 2) -> Tensor:
    return torch.randint(0, 256, (count, 3, 64, 64), generator=torch.Generator().manual_seed(4)).float() / 255


def test_positions_are_33_ascending_from_0_to_16_and_finer_near_0() -> None:
    steps = [b - a for a, b in itertools.pairwise(POSITIONS)]
    assert len(POSITIONS) == 33
    assert POSITIONS[0] == 0
    assert POSITIONS[-1] == 16 / 255
    assert all(later >= earlier - 1e-9 > -1e-9 for earlier, later in itertools.pairwise(steps))


def test_distance_by_hand() -> None:
    clean = torch.full((1, 3, 16, 16), 0.5)
    changed = clean.clone()
    changed[0, 0, 0, 0] = 0.8
    changed[0, 1, 0, 0] = 0.1
    found = image_distance(clean, changed)
    assert float(found["linf"]) == pytest.approx(0.4)
    assert float(found["l2"]) == pytest.approx(0.5)
    assert float(found["psnr"]) == pytest.approx(-10 * math.log10(0.25 / 768), abs=1e-4)
    same = image_distance(clean, clean)
    assert float(same["ssim"]) == pytest.approx(1)
    assert math.isinf(float(same["psnr"]))


def test_shift_by_hand() -> None:
    before = torch.zeros(1, 20, 20)
    before[0, 0, :] = 2.0
    before[0, 1, :] = 1.0  # the top 10 % are 40 of 400 pixels: the first two rows
    after = torch.zeros(1, 20, 20)
    after[0, 1, :] = 4.0
    after[0, 2, :] = 4.0
    found = explanation_shift(before, after)
    assert set(found) == set(SHIFTS)
    assert float(found["topk_iou"]) == pytest.approx(20 / 60)
    assert float(found["energy_kept"]) == pytest.approx(0.5)
    assert float(found["centroid_drift"]) == pytest.approx((1.5 - 1 / 3) / math.hypot(19, 19), abs=1e-6)
    still = explanation_shift(before, before * 3)
    assert float(still["spearman"]) == pytest.approx(1)
    assert float(still["ssim"]) == pytest.approx(1)
    assert float(still["centroid_drift"]) == pytest.approx(0)


def test_energy_of_sparse_and_blank_maps() -> None:
    here, there, blank = torch.zeros(3, 1, 20, 20)
    here[0, 0, 0] = there[0, 19, 19] = 1.0
    # One pixel is the top for certain; the other 39 of 40 places are shared by the 399 tied zeros.
    assert float(explanation_shift(here, there)["energy_kept"]) == pytest.approx(39 / 399)
    assert math.isnan(explanation_shift(blank, there)["energy_kept"])
    assert float(explanation_shift(here, here)["energy_kept"]) == pytest.approx(1)


def test_a_shift_does_not_depend_on_its_neighbours() -> None:
    maps = torch.rand(2, 2, 20, 20, generator=torch.Generator().manual_seed(0))
    maps[:, 1] -= 0.5  # signed
    together = explanation_shift(*maps)
    for index in range(2):
        alone = explanation_shift(*maps[:, index : index + 1])
        for name, value in together.items():
            assert float(value[index]) == pytest.approx(float(alone[name]), abs=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_noise_has_the_norm_of_the_attack(tiny: Classifier, norm: str) -> None:
    x = images()
    x[:, :, :32] = x[:, :, :32].round()  # half of the pixels at the ends of the box
    result = attack(tiny, x, "pgd", PGD(norm=norm, steps=2), epsilon=4 / 255 if norm == "linf" else 1.5)
    noisy = noise_of_equal_norm(x, result, norm, Run(seed=3))
    assert noisy.min() >= 0
    assert noisy.max() <= 1
    delta = (noisy - x).flatten(1)
    measured = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    torch.testing.assert_close(measured, result.linf if norm == "linf" else result.l2, atol=1e-4, rtol=0)


def test_noise_keeps_its_norm_where_the_box_takes_most_of_it(tiny: Classifier) -> None:
    x = images().round()  # every pixel at an end of the box
    result = attack(tiny, x, "pgd", PGD(norm="l2", steps=1), epsilon=1.5)
    longest = (x - (torch.rand(x.shape) < 0.5).float()).flatten(1).norm(dim=1).mean()
    result = dataclasses.replace(result, l2=torch.full((2,), 0.95 * float(longest)))
    noisy = noise_of_equal_norm(x, result, "l2", Run())
    torch.testing.assert_close((noisy - x).flatten(1).norm(dim=1), result.l2, atol=1e-3, rtol=0)


@dataclass(frozen=True)
class Whiten:
    """An attack that no noise keeps up with on a dark picture: every pixel goes up."""

    norm: str = "l2"
    targeted: bool = False

    def __call__(self, module: InputModel, x: Tensor, *_: object) -> Moved:
        white = torch.ones_like(x)
        return Moved(white, module(white))


def test_noise_that_the_box_keeps_short_is_said_with_both_norms(tiny: Classifier) -> None:
    dark = torch.full((1, 3, 64, 64), 0.1)
    study = epsilon_study(tiny, dark, [0.0, 1.0, 120.0], "fgsm", Whiten())
    up = float((study.noisy[2] == 1).double().mean())
    assert bool(((study.noisy[2] == 0) | (study.noisy[2] == 1)).all())  # every pixel is at an end, and can no further
    noise, attacked = math.sqrt(12288 * (up * 0.9**2 + (1 - up) * 0.1**2)), math.sqrt(12288 * 0.9**2)
    torch.testing.assert_close(study.norms["noise"][2], torch.tensor([noise]))
    assert study.shortfall == (
        "The noise is weaker than the attack at 2 of 3 epsilons: in the worst case the box [0, 1] lets it reach an L2 "
        f"norm of {noise:.4g}, where the attack has {attacked:.4g}."
    )
    mid = epsilon_study(tiny, torch.full((1, 3, 64, 64), 0.5), [0.0, 1.0, 120.0], "fgsm", Whiten())
    assert mid.shortfall == ""  # from the middle either end is as far
    both = epsilon_study(tiny, torch.cat([study.clean, mid.clean]), [0.0, 1.0, 120.0], "fgsm", Whiten())
    said = [entry(both, tiny, "folder", "source", index)["noise_falls_short"] for index in (0, 1)]
    assert said == [study.shortfall, None]  # of the image alone
    curve = security_curve([study, mid])
    assert study.shortfall.replace(" epsilons:", " epsilons and on 1 of 2 images:") in curve.protocol
    assert security_curve(mid).protocol.endswith("drawn for each image anew.")
    assert "start" not in security_curve(mid).protocol  # FGSM has none


@pytest.mark.parametrize("level", [0.1, 0.5, None])
def test_noise_of_the_largest_norm_never_falls_short_of_an_attack_on_each_pixel(
    tiny: Classifier, level: float | None
) -> None:
    x = images() if level is None else torch.full((2, 3, 64, 64), level)
    study = epsilon_study(tiny, x, [0.0, 0.5, 0.7, 1.0], "fgsm", FGSM())
    torch.testing.assert_close(study.norms["noise"], study.norms["attack"], atol=1e-6, rtol=0)
    assert study.shortfall == ""


def test_every_picture_has_a_start_and_a_noise_of_its_own_wherever_it_stands(tiny: Classifier) -> None:
    x, near = images(3), PGD(steps=1, step_size=1e-6, keep="last")  # ends where it starts, within the one step

    def start(pictures: Tensor) -> Tensor:
        return attack(tiny, pictures, "pgd", near, epsilon=8 / 255).adversarial - pictures

    def noise(pictures: Tensor) -> Tensor:
        return epsilon_study(tiny, pictures, [8 / 255], "fgsm", FGSM()).noisy[0] - pictures

    for drawn in (start, noise):
        alone = torch.cat([drawn(picture[None]) for picture in x])
        alike = ((alone[0] > 0) == (alone[1] > 0)).float().mean()
        assert float(alike) == pytest.approx(0.5, abs=0.03)  # of 12,288 coin tosses; 0.0045 is one standard deviation
        torch.testing.assert_close(drawn(x), alone, atol=3e-6, rtol=0)
        torch.testing.assert_close(drawn(x.flip(0)), alone.flip(0), atol=3e-6, rtol=0)
        twice = drawn(x[[0, 0]])
        torch.testing.assert_close(twice[0], twice[1], atol=3e-6, rtol=0)


def test_smallest_epsilon_by_hand() -> None:
    success = torch.tensor([[False, False], [True, False], [True, False]])
    found = smallest_epsilon(torch.tensor([0.0, 0.1, 0.2]), success)
    assert float(found[0]) == pytest.approx(0.1)
    assert math.isnan(float(found[1]))
    texts = [smallest_text(value, "linf") for value in found.tolist()]
    assert texts == ["25.5/255 or less", "none of those tried"]
    assert smallest_text(math.nan, "linf", already=True) == "reached before the attack"


def test_epsilon_0_changes_nothing(tiny: Classifier) -> None:
    study = epsilon_study(tiny, images(), [0.0, 2 / 255], params=PGD(steps=2))
    assert not bool(study.success[0].any())
    assert torch.equal(study.attacked[0].adversarial, images())
    assert torch.equal(study.noisy[0], images())
    for which in ("old", "new"):
        maps = study.maps[which]
        assert torch.equal(maps.clean[0], maps.attack[0])
        for who in ("attack", "noise"):
            for name, fact in SHIFTS.items():
                if name != "energy_kept":
                    expected = torch.full((2,), 1.0 if fact.high_is_same else 0.0)
                    torch.testing.assert_close(study.shift[which][who][name][0], expected, atol=1e-5, rtol=0)


def test_study_is_the_same_again_and_matches_its_parts(tiny: Classifier) -> None:
    study, again = (epsilon_study(tiny, images(), [0, 1 / 255, 8 / 255], params=PGD(steps=3), seed=2) for _ in range(2))
    assert torch.equal(study.maps["new"].attack, again.maps["new"].attack)
    assert bool((study.maps["old"].class_index != study.maps["new"].class_index).all())
    flipped = torch.stack([r.logits_after.argmax(-1) for r in study.attacked])
    assert torch.equal(study.maps["new"].class_index[study.success], flipped[study.success])
    total = study.probability("old") + study.probability("new")
    assert bool((total <= 1 + 1e-5).all())
    curve = security_curve(study)
    assert bool((curve.success.mean.diff() >= 0).all())
    assert curve.success.n == 2
    assert not bool(study.success[0].any())
    z2 = 1.959963984540054**2
    for band in (curve.success, curve.noise_turns):
        assert float(band.high[0]) == pytest.approx(z2 / (2 + z2))  # none of two does not say never
    assert curve.protocol.startswith("Over 2 images: rates with their Wilson 95 % interval")
    assert "PGD-3" in study.protocol.sentence


def test_a_blank_map_has_no_shift_and_is_left_out_and_told(tiny: Classifier) -> None:
    x = images()
    study = epsilon_study(tiny, x, [0, 1 / 255, 8 / 255], params=PGD(steps=3))
    assert security_curve(study).blank == 0
    whole = study.shift["old"]["attack"]["spearman"].clone()
    before, after = torch.rand(2, 16, 16), torch.rand(2, 16, 16)
    after[1] = 0  # blank
    for name, values in explanation_shift(before, after).items():
        assert values.isnan().tolist() == [False, True], name
        study.shift["old"]["attack"][name][2, 1] = torch.nan
    curve = security_curve(study)
    assert curve.blank == 1
    assert curve.protocol.endswith(
        " 1 of 6 attacked images have a blank map, clean or attacked: no shift, left out there."
    )
    band = curve.shift["attack"]["spearman"]
    expected = [*whole[:2].double().mean(1).tolist(), float(whole[2, 0])]
    assert band.mean.tolist() == pytest.approx(expected, abs=1e-6)
    assert band.low.isnan().tolist() == [False, False, True]  # one image has no interval


def test_progress_reaches_its_end_and_cancel_stops(tiny: Classifier) -> None:
    seen: list[tuple[int, int]] = []
    epsilon_study(
        tiny, images(1), [0, 0.01], params=PGD(steps=2), run=Run(on_progress=lambda d, t, _n: seen.append((d, t)))
    )
    assert [d for d, _ in seen] == sorted(d for d, _ in seen)
    assert seen[-1][0] == seen[-1][1]
    with pytest.raises(Cancelled):
        epsilon_study(tiny, images(1), [0, 0.01], run=Run(cancelled=lambda: len(seen) > 0))


def test_what_cannot_be_explained_is_said_before_the_attack(tiny: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adversarial, "sweep", lambda *_, **__: pytest.fail("the attack has begun"))
    with pytest.raises(LayerError, match="layer 'nope' is not in this network"):
        epsilon_study(tiny, images(), [0, 0.01], layer="nope")
    with pytest.raises(NotApplicableError, match="there is no attention between the pixels and the score"):
        epsilon_study(tiny, images(), [0, 0.01], method="attention_rollout")


def test_the_protocol_names_step_start_and_aim(tiny: Classifier) -> None:
    def said(params: Attack, labels: object = None, epsilon: float = 0.01) -> str:
        study = epsilon_study(tiny, images(), [epsilon], params=params, labels=labels)  # type: ignore[arg-type]
        return study.protocol.sentence.partition(", 1 epsilon in")[0]

    cross = "cross-entropy loss, "
    ball = "PGD-2 in the L-infinity ball, step 2.5 epsilon / 2, "
    assert said(PGD(steps=2)) == f"{ball}{cross}away from the predicted class"
    assert said(PGD(steps=2, loss="margin")) == f"{ball}margin loss, away from the predicted class"
    assert said(PGD(steps=1, step_size=2 / 255), 3).endswith(f"step 2/255, {cross}away from dog (3)")
    assert said(PGD(steps=1, norm="l2", step_size=0.2, targeted=True), 2).endswith(f"step 0.2, {cross}towards cat (2)")
    assert said(PGD(steps=1, targeted=True), [2, 3]).endswith("towards the class given for each image")
    many = epsilon_study(tiny, images(), [0.01], params=PGD(steps=1, restarts=3)).protocol.sentence
    assert "3 random starts, the same for all" in many
    assert "3 random starts, the same for all epsilons, seed 0" in many  # each image has its own
    assert many.endswith("; control: random noise of equal norm; explanation: Grad-CAM.")
    elsewhere = epsilon_study(tiny, images(), [0.01], params=PGD(steps=1), layer="conv1").protocol.sentence
    assert elsewhere.endswith("explanation: Grad-CAM at conv1.")


def test_a_class_to_reach_that_is_there_already(tiny: Classifier) -> None:
    predicted = tiny.predict(images()).argmax(1)
    wanted = torch.stack([predicted[0], (predicted[1] + 1) % 5])
    study = epsilon_study(tiny, images(), [0.0, 0.01], params=PGD(steps=1, targeted=True), labels=wanted)
    assert study.already.tolist() == [True, False]
    assert study.success[:, 0].tolist() == study.survives_png[:, 0].tolist() == [False, False]
    reached = (study.noise_logits.argmax(-1) == wanted) & torch.tensor([False, True])
    assert torch.equal(study.noise_turns, reached)  # the control is judged by the aim of the attack
    label = tiny.labels[int(wanted[0])]
    sentence = f"The network decides for the chosen class, {label}, already before the attack: nothing has to change."
    assert answer(study, tiny) == sentence
    told = entry(study, tiny, "folder", "source")
    assert (told["already"], told["answer"]) == (True, sentence)
    assert told["smallest_epsilon_text"] == "reached before the attack"
    assert not any(row["success"] or row["survives_png"] or row["noise_turns"] for row in told["epsilons"])
    curve = security_curve(study)
    assert (curve.success.n, curve.already) == (1, 1)
    assert curve.protocol.startswith("Over 1 image (1 more had reached the aim before the attack and are left out): ")
    with pytest.raises(InputError, match="every image has reached the aim before the attack"):
        security_curve(epsilon_study(tiny, images()[:1], [0.01], params=PGD(steps=1, targeted=True), labels=wanted[:1]))


def test_a_label_to_leave_that_is_wrong_already(tiny: Classifier) -> None:
    predicted = tiny.predict(images()).argmax(1)
    label = torch.stack([(predicted[0] + 1) % 5, predicted[1]])
    study = epsilon_study(tiny, images(), [0.0, 64 / 255], params=PGD(steps=30), labels=label)
    assert study.already.tolist() == [True, False]
    assert study.success.tolist() == [[False, False], [False, True]]
    assert answer(study, tiny).startswith(
        f"The network does not decide for the label, {tiny.labels[int(label[0])]}, already"
    )
    assert study.smallest.isnan().tolist() == [True, False]


def test_the_smallest_epsilon_is_an_upper_bound_or_the_smallest_tried(tiny: Classifier) -> None:
    params = PGD(steps=5)
    found = epsilon_study(tiny, images(), [0.0, 64 / 255, 80 / 255], params=params)
    quick = epsilon_study(tiny, images(), [0.0, 64 / 255, 80 / 255], params=params, bisect=False)
    tenths = found.smallest * 2550
    assert bool((tenths - tenths.round()).abs().max() < 1e-3)
    for index, value in enumerate(found.smallest.tolist()):
        assert bool(attack(tiny, images()[index : index + 1], "pgd", params, epsilon=value).success)
        at = f"{value * 255:.4g}/255 or less"
        assert answer(found, tiny, index) == (
            f"An epsilon of {at} changes the class. This is an upper bound, found by bisection to 0.1/255."
        )
        assert entry(found, tiny, "folder", "source", index)["smallest_epsilon_text"] == at
        tried = "Smallest epsilon tried so far that changes the class (of 2): 64/255."
        assert answer(quick, tiny, index) == tried
    never = epsilon_study(tiny, images(), [0.0, 1e-4], params=params)
    told = "No epsilon tried changes the class (1, up to 0.0255/255). A stronger attack may."
    assert answer(never, tiny) == told
    clean = epsilon_study(tiny, images(), [0.0], params=params)
    assert answer(clean, tiny) == "Only epsilon 0 was tried so far, which leaves the picture as it is."


def test_the_cost_that_is_told_is_what_is_computed_at_the_most(
    tiny: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    forward, gradient = tiny.module.forward, torch.autograd.grad

    def counted_forward(x: Tensor) -> Tensor:
        passes.append(len(x))
        return forward(x)

    def counted_gradient(output: Tensor, leaf: Tensor, **more: bool) -> tuple[Tensor, ...]:
        passes.append(2 * len(leaf))
        return gradient(output, leaf, **more)

    monkeypatch.setattr(tiny.module, "forward", counted_forward)
    monkeypatch.setattr(torch.autograd, "grad", counted_gradient)
    params, epsilons = PGD(steps=5), [0.0, 64 / 255]
    epsilon_study(tiny, images(1), epsilons, params=params, method="saliency")
    told = study_passes(tiny, epsilons, "pgd", params, "saliency")
    assert told - study_passes(tiny, epsilons, "pgd", params, "saliency", bisect=False) == 10 * 17
    assert 0.8 * told <= sum(passes) <= told + 10  # each bisection looks at its PNG, and the study once at the picture


@pytest.mark.parametrize("loss", ["cross-entropy", "margin"])
def test_a_network_that_is_certain_is_said_to_be(loss: Literal["cross-entropy", "margin"]) -> None:
    sure, params = certain(), PGD(steps=2, loss=loss)
    study = epsilon_study(sure, images(1), [0.0, 0.01, 0.02], params=params)
    told = entry(study, sure, "folder", "source")["no_gradient"]
    if loss == "margin":
        assert told is None
        return
    assert told.startswith(
        "At 2 of 2 epsilons the network was so sure (a probability of exactly 1) that the cross-entropy has no "
        "gradient; the attack climbed the margin loss there instead."
    )
    rows = entry(study, sure, "folder", "source")["epsilons"]
    assert [row["saturated"] for row in rows] == [False, True, True]
    assert [row["blind"] for row in rows] == [False] * 3


def test_files_carry_the_norm_that_they_have(tiny: Classifier) -> None:
    params = PGD(steps=2, step_size=1 / 255, start_at_random=False)
    study = epsilon_study(tiny, images(1), [0.0, 16 / 255], params=params)  # two steps of 1/255 reach no further
    assert file_stem("perturbation", study, 1) == "perturbation-16of255-linf-2of255"
    assert file_stem("adversarial", study, 1) == "adversarial-16of255-linf-2of255"
    files = image_files(study, tiny, "one")
    assert {"one/adversarial-16of255-linf-2of255.png", "one/perturbation-0of255-linf-0of255.npy"} < set(files)
    far = epsilon_study(
        tiny,
        torch.full((1, 3, 64, 64), 0.5),
        [0.5],
        params=PGD("l2", steps=1, step_size=0.1, start_at_random=False, keep="last"),
    )
    assert file_stem("perturbation", far, 0) == "perturbation-0.5-l2-0.1"


def test_the_envelope_is_named(tiny: Classifier) -> None:
    plain, kept = (
        epsilon_study(tiny, images(1), [0.25, 1.0], "fgsm", FGSM(), envelope=envelope) for envelope in (False, True)
    )
    assert "(envelope)" not in plain.protocol.sentence
    assert "at each the best found there or at a smaller one (envelope)" in kept.protocol.sentence
    assert [each.protocol.settings["envelope"] for each in (plain, kept)] == [False, True]
    assert float(plain.attacked[1].linf) > 0.9
    assert float(kept.attacked[1].linf) <= 0.25


def test_numbers_give_the_same_curve_without_the_pictures(tiny: Classifier) -> None:
    parts = [epsilon_study(tiny, images()[i : i + 1], [0, 0.02], params=PGD(steps=2)) for i in range(2)]
    numbers = [part.numbers() for part in parts]
    assert torch.equal(security_curve(numbers).success.mean, security_curve(parts).success.mean)
    assert len(pickle.dumps(numbers[0])) < 20_000  # one picture alone is 49,152 bytes


def test_short_memory_is_said_through_every_stage() -> None:
    notes: set[str] = set()
    run = Run(on_progress=lambda _d, _t, note: notes.add(note))
    epsilon_study(short_of_memory(2), images(), [0, 0.01], params=PGD(steps=2), run=run)
    short = "(batches of 2: memory is short)"
    assert {f"attacking {short}", f"noise: predictions {short}"} <= notes
    assert any(note.startswith("new class, noise: ") and note.endswith("memory is short)") for note in notes)


def test_bad_shapes_get_one_sentence() -> None:
    with pytest.raises(InputError, match="give two of"):
        explanation_shift(torch.zeros(1, 20, 20), torch.zeros(1, 21, 20))
    with pytest.raises(InputError, match="give two of"):
        image_distance(torch.zeros(1, 3, 20, 20), torch.zeros(2, 3, 20, 20))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chelsea.png", "coffee.png", "rocket.jpg", "china.jpg", "flower.jpg"])
def test_shipped_photographs_are_turned_at_4_of_255_as_png(lite0: Classifier, name: str) -> None:
    x = lite0.preprocess(load_image(ASSETS / "samples" / name))
    study = epsilon_study(lite0, x, [0.0, 4 / 255])
    assert study.success[:, 0].tolist() == [False, True]
    assert study.survives_png[:, 0].tolist() == [False, True]
    if name != "chelsea.png":  # its two likeliest classes, tiger cat and Egyptian cat, are three points apart
        assert not bool(study.noise_turns.any())
