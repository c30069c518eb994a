"""Networks whose outputs are sigmoids: one output beside its two-output twin, and independent ones by hand.

The twin of one output z has the logits (z, 0) under a softmax, whose probabilities are sigmoid(z) and 1 - sigmoid(z).
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import xai
from tests.conftest import CAT
from tests.unit.explain.test_methods_contract import CHEAP
from xai.attacks.spec import ATTACKS
from xai.cli import main
from xai.errors import InputError
from xai.explain.spec import METHODS
from xai.metrics.spec import METRICS
from xai.models.build import untrained_network
from xai.models.classifier import Classifier
from xai.models.store import model_spec
from xai.outputs import Output
from xai.studies.adversarial.study import epsilon_study
from xai.studies.faithfulness.evaluate import open_results
from xai.types import Attribution

YES, NO = 1, 0
ASKED = [spec.name for spec in METRICS if spec.kind in ("curve", "model")]


def state(outputs: int, sign: float = 1.0) -> dict[str, Tensor]:
    """A SimpleCNN whose first output is the same for any number of outputs, times `sign`; of two the other is 0.

    Weights are large enough for the answers to be moved by the pixels, and biases put them near the decision.
    """
    net = untrained_network(model_spec("simple_cnn"), 3, 5)
    found = {
        key: value * 2.4 if value.dim() == 4 else torch.zeros_like(value) for key, value in net.state_dict().items()
    }
    weight = 3 * sign * net.state_dict()["head.weight"]
    bias = sign * torch.tensor([3.0, -3.85, -2.2, -2.9, -0.5])
    if outputs == 2:
        weight, bias = weight * torch.eye(5)[:, :1], bias * torch.eye(5)[0]
    return {**found, "head.weight": weight[:outputs].clone(), "head.bias": bias[:outputs].clone()}


def load(folder: Path, outputs: int, name: str = "net", sign: float = 1.0, **options: Any) -> Classifier:
    path = folder / f"{name}.pth"
    torch.save(state(outputs, sign), path)
    return xai.load_model("simple_cnn", f"file:{path}", "cpu", **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def one(folder: Path) -> Classifier:
    return load(folder, 1, "one")


@pytest.fixture(scope="module")
def twin(folder: Path) -> Classifier:
    return load(folder, 2, "twin", labels=("yes", "no"))


@pytest.fixture(scope="module")
def negated(folder: Path) -> Classifier:
    """One output, of the other sign: its yes is the no of `one`."""
    return load(folder, 1, "negated", sign=-1.0)


@pytest.fixture(scope="module")
def many(folder: Path) -> Classifier:
    return load(folder, 5, "many", output="sigmoid")


@pytest.fixture(scope="module")
def x(one: Classifier) -> Tensor:
    """The cat, and its mirror image in other colours."""
    cat = one.preprocess(xai.load_image(CAT))
    return torch.cat([cat, cat.flip(3, 1) * 0.8])


def raw(classifier: Classifier, x: Tensor) -> Tensor:
    """What the network itself gives, without Olhar."""
    net = classifier.module.net
    with torch.no_grad():
        return net((x - 0.5) / 0.25)


def explain(classifier: Classifier, x: Tensor, name: str, target: int) -> Attribution:
    fields = METHODS.get(name).explainer.__dataclass_fields__  # type: ignore[attr-defined]
    return xai.attribute(classifier, x, name, targets=target, **{key: CHEAP[key] for key in fields if key in CHEAP})


def applies(classifier: Classifier, name: str) -> bool:
    return xai.applicability(classifier, name).status != "refused"


# --- one output -------------------------------------------------------------------------------------------------------


def test_one_output_is_no_and_yes(one: Classifier, twin: Classifier, x: Tensor) -> None:
    z = raw(one, x)
    assert z.shape == (2, 1)
    logits = one.predict(x)
    assert torch.equal(logits, torch.cat([-z, z], 1))
    assert one.labels == ("no", "yes")
    assert one.output == "sigmoid"
    assert twin.output == "softmax"
    p = torch.sigmoid(z[:, 0].double())
    assert float(p.min()) > 0.02
    assert float(p.max()) < 0.98
    found = xai.attribute(one, x, "gradcam")
    torch.testing.assert_close(found.probabilities().double(), torch.stack([1 - p, p], 1), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.probabilities(), xai.attribute(twin, x, "gradcam").probabilities().flip(1))
    assert found.target.tolist() == (p > 0.5).long().tolist()
    best = one.top(logits)[0]
    assert {name: chance for _, name, chance in best} == pytest.approx({"no": 1 - float(p[0]), "yes": float(p[0])})
    assert "one output, read by a sigmoid as no and yes" in one.notes


@pytest.mark.parametrize("name", METHODS.names())
def test_maps_of_yes_are_the_twins_and_of_no_those_of_the_negated_network(
    name: str, one: Classifier, twin: Classifier, negated: Classifier, x: Tensor
) -> None:
    assert applies(one, name) == applies(twin, name)
    if not applies(one, name):
        return
    yes, no = explain(one, x, name, YES), explain(one, x, name, NO)
    for found, same in ((yes, explain(twin, x, name, 0)), (no, explain(negated, x, name, YES))):
        scale = float(same.values.abs().max())
        torch.testing.assert_close(found.values, same.values, atol=1e-5 * scale + 1e-12, rtol=1e-4)
    if METHODS.get(name).per_class and name != "saliency":  # which takes the size of the gradient alone
        assert not torch.allclose(yes.values, no.values)


def test_the_score_of_yes_is_the_networks_own_output(one: Classifier, x: Tensor) -> None:
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(one.module.net((leaf - 0.5) / 0.25).sum(), leaf)
    found = xai.attribute(one, x, "inputxgradient", targets=YES)
    torch.testing.assert_close(found.values, (gradient * x), atol=1e-6, rtol=1e-4)
    assert float(xai.attribute(one, x, "inputxgradient", targets=NO).values.add(gradient * x).abs().max()) < 1e-5


@pytest.mark.parametrize("name", ASKED)
def test_metrics_are_the_twins(name: str, one: Classifier, twin: Classifier, x: Tensor) -> None:
    maps = xai.attribute(one, x, "gradcam", targets=YES).maps()
    spec = METRICS.get(name)
    mine = spec.measure(one, x, maps, spec.params(), YES)
    same = spec.measure(twin, x, maps, spec.params(), 0)
    for part in ("auc", "values", "y"):
        if hasattr(mine, part):
            torch.testing.assert_close(getattr(mine, part), getattr(same, part), atol=1e-6, rtol=1e-5)
    assert "sigmoid of the class asked for" in mine.protocol.sentence
    assert mine.protocol.settings["score"] == "sigmoid probability of the class asked for"
    assert same.protocol.settings["score"] == "softmax probability of the class asked for"


def test_insertion_ends_at_the_probability_of_the_whole_image(one: Classifier, x: Tensor) -> None:
    maps = xai.attribute(one, x, "gradcam", targets=NO).maps()
    curve = xai.metrics.insertion(one, x, maps, targets=NO)
    p = 1 - torch.sigmoid(raw(one, x)[:, 0])
    torch.testing.assert_close(curve.y[:, -1].double(), p.double(), atol=1e-6, rtol=0)
    assert float(curve.auc.max()) < 0.999


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("loss", ["cross-entropy", "margin"])
@pytest.mark.parametrize("name", ATTACKS.names())
def test_attacks_are_the_twins(
    name: str, loss: str, targeted: bool, one: Classifier, twin: Classifier, x: Tensor
) -> None:
    params = ATTACKS.get(name).params(targeted=targeted, loss=loss)
    yes = raw(one, x)[:, 0] > 0
    said = torch.where(yes, YES, NO)
    labels = 1 - said if targeted else said
    epsilon = 8 / 255
    mine = xai.attacks.attack(one, x, name, params, labels=labels, epsilon=epsilon)
    same = xai.attacks.attack(twin, x, name, params, labels=1 - labels, epsilon=epsilon)
    # Where a gradient is as good as zero its sign is decided by rounding.
    assert float((mine.adversarial - same.adversarial).abs().gt(1e-6).double().mean()) < 0.001
    turned = (raw(one, mine.adversarial)[:, 0] > 0) != yes
    assert mine.success.tolist() == same.success.tolist() == turned.tolist()
    assert bool(turned.any())  # the attack has an effect at all
    torch.testing.assert_close(mine.logits_after[:, 1], raw(one, mine.adversarial)[:, 0], atol=1e-4, rtol=1e-4)
    assert mine.output == "sigmoid"


def test_a_study_over_epsilon_is_the_twins(one: Classifier, twin: Classifier, x: Tensor) -> None:
    epsilons = (0.0, 1 / 255, 4 / 255)
    mine, same = (epsilon_study(each, x, epsilons) for each in (one, twin))
    assert mine.success.tolist() == same.success.tolist()
    assert bool(mine.success.any())
    assert mine.noise_turns.tolist() == same.noise_turns.tolist()
    for which in ("old", "new"):
        torch.testing.assert_close(mine.probability(which), same.probability(which), atol=1e-3, rtol=0)
        assert torch.equal(mine.maps[which].class_index, 1 - same.maps[which].class_index)


def test_names_of_one_output(folder: Path) -> None:
    assert load(folder, 1, labels=("healthy", "tumour")).labels == ("healthy", "tumour")
    assert load(folder, 1, labels=("tumour",)).labels == ("no tumour", "tumour")
    with pytest.raises(InputError, match=r"^there are 3 class names for one output; give two, for no and yes\.$"):
        load(folder, 1, labels=("a", "b", "c"))


def test_a_softmax_of_one_output_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"^net\.pth has one output, whose softmax is always 1; use output sigmoid\.$"):
        load(folder, 1, output="softmax")


def test_what_is_said_of_outputs_must_fit(folder: Path) -> None:
    with pytest.raises(InputError, match=r"^output 'softmaxx' is not known; use softmax or sigmoid\.$"):
        load(folder, 5, output="softmaxx")
    with pytest.raises(InputError, match=r"^weights 'imagenet' know their outputs; leave output out"):
        xai.load_model("efficientnet_lite0", output="sigmoid")
    path = folder / "net.pth"
    with pytest.raises(InputError, match=r"say sigmoid, but output is softmax; give one of them\.$"):
        xai.load_model("simple_cnn", f"file:{path}?output=sigmoid", "cpu", output="softmax")


# --- independent sigmoids ---------------------------------------------------------------------------------------------


def test_each_class_has_its_own_sigmoid(many: Classifier, folder: Path, x: Tensor) -> None:
    z = raw(many, x)
    assert torch.equal(many.predict(x), z)
    found = xai.attribute(many, x, "gradcam")
    torch.testing.assert_close(found.probabilities(), torch.sigmoid(z))
    assert found.target.tolist() == z.argmax(1).tolist()
    assert [p for *_, p in many.top(z)[0]] == pytest.approx(sorted(torch.sigmoid(z[0]).tolist(), reverse=True))
    assert any(note.startswith("independent sigmoids") for note in many.notes)
    path = folder / "many.pth"
    assert xai.load_model("simple_cnn", f"file:{path}?output=sigmoid", "cpu") is many  # the same in one text
    softmax = xai.load_model("simple_cnn", f"file:{path}", "cpu")
    assert softmax.output == "softmax"
    assert softmax.fingerprint != many.fingerprint


def test_rise_averages_the_classs_own_sigmoid(many: Classifier, x: Tensor) -> None:
    """The test draws the masks itself, as the RISE paper defines them: the sum is linear in the probabilities."""
    found = xai.attribute(many, x[:1], "rise", targets=2, masks=24)
    seen: list[Tensor] = []
    handle = many.module.register_forward_hook(lambda _m, args, _out: seen.append(args[0].clone()))
    try:
        again = xai.attribute(many, x[:1], "rise", targets=2, masks=24)
    finally:
        handle.remove()
    assert torch.equal(found.values, again.values)
    pictures = torch.cat(seen[1:])
    masks = ((pictures - 0.5) / torch.where((x[:1] - 0.5).abs() < 0.05, torch.nan, x[:1] - 0.5)).nanmean(1)
    p = torch.sigmoid(raw(many, pictures)[:, 2])
    by_hand = torch.einsum("n,nhw->hw", p, masks.double().float()) / (24 * 0.5)
    sure = by_hand.isfinite()
    assert float(sure.float().mean()) > 0.5
    torch.testing.assert_close(found.values[0][sure], by_hand[sure], atol=1e-3, rtol=1e-3)


def test_insertion_follows_the_classs_own_sigmoid(many: Classifier, x: Tensor) -> None:
    maps = xai.attribute(many, x, "gradcam", targets=3).maps()
    curve = xai.metrics.insertion(many, x, maps, protocol="study", targets=3)
    for place, fraction in enumerate((0.0, 0.25, 0.5, 0.75, 1.0)):
        picture = xai.metrics.picture_at(many, x[:1], maps[0], fraction, "insertion", "study")
        by_hand = torch.sigmoid(raw(many, picture[None])[0, 3])
        assert float(curve.y[0, place]) == pytest.approx(float(by_hand), abs=1e-5)


def test_an_attack_turns_the_decision_of_its_class(many: Classifier, x: Tensor) -> None:
    z = raw(many, x[:1])[0]
    for label in range(5):
        there = bool(z[label] > 0)
        params = ATTACKS.get("pgd").params(targeted=not there)
        made = xai.attacks.attack(many, x[:1], "pgd", params, labels=label, epsilon=8 / 255)
        after = raw(many, made.adversarial)[0]
        assert bool(made.success[0]) == (bool(after[label] > 0) != there)
        assert bool(made.success[0])  # so strong an attack turns each of them
        far = xai.attacks.attack(many, x[:1], "pgd", params, labels=label, epsilon=0.0)
        assert not bool(far.success[0])


def test_one_step_climbs_the_binary_cross_entropy(many: Classifier, x: Tensor) -> None:
    made = xai.attacks.fgsm(many, x, labels=[1, 4], epsilon=2 / 255)
    leaf = x.clone().requires_grad_()
    logits = many.module.net((leaf - 0.5) / 0.25)
    chosen = torch.stack([logits[0, 1], logits[1, 4]])
    loss = F.binary_cross_entropy_with_logits(chosen, torch.ones(2), reduction="sum")
    (gradient,) = torch.autograd.grad(loss, leaf)
    expected = (x + 2 / 255 * gradient.sign()).clamp(0, 1)
    torch.testing.assert_close(made.adversarial, expected, atol=1e-6, rtol=0)


def test_sigmoids_by_hand() -> None:
    logits, target = torch.tensor([[2.0, -1.0, 0.5]], dtype=torch.float64), torch.tensor([1])
    output = Output.of("sigmoid")
    assert output.probabilities(logits)[0].tolist() == pytest.approx([0.880797, 0.268941, 0.622459], abs=1e-6)
    assert float(output.loss(logits, target)) == pytest.approx(1.313262, abs=1e-6)  # -ln 0.268941
    assert float(output.margin(logits, target)) == -1.0
    assert float(Output.SOFTMAX.margin(logits, target)) == -3.0


def test_copies_keep_their_output(many: Classifier) -> None:
    assert many.private().output == "sigmoid"
    assert dataclasses.replace(many, labels=tuple("abcde")).output == "sigmoid"


# --- in the terminal --------------------------------------------------------------------------------------------------


def command(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command that ends well prints on stdout."""
    assert main(list(words)) == 0
    return capsys.readouterr().out


def test_explain_evaluate_and_attack_take_a_file_with_one_output(
    one: Classifier, x: Tensor, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    p = float(torch.sigmoid(raw(one, x)[0, 0]))
    said = {"yes": p, "no": 1 - p}
    model = ("--model", "simple_cnn", "--weights", f"file:{folder / 'one.pth'}", "--device", "cpu")
    told = json.loads(command(capsys, "explain", str(CAT), *model, "--target", "no", "--out", str(tmp_path), "--json"))
    (shown,) = told["images"][0]["models"]
    assert shown["output"] == "sigmoid"
    assert {each["name"]: each["probability"] for each in shown["predictions"]} == pytest.approx(said, abs=1e-6)
    assert shown["explanations"][0]["target"]["probability"] == pytest.approx(1 - p, abs=1e-6)
    assert "one output, read by a sigmoid as no and yes" in shown["notes"]

    out = tmp_path / "run"
    command(
        capsys, "evaluate", str(CAT.parent), *model, "--method", "gradcam", "--protocol", "study", "--out", str(out)
    )
    rows = pq.read_table(out / "results.parquet").to_pylist()
    cat = next(row for row in rows if row["image"] == CAT.name and row["method"] == "gradcam")
    assert cat["confidence"] == pytest.approx(max(p, 1 - p), abs=1e-6)
    assert "p = sigmoid of the class predicted" in cat["insertion_protocol"]
    assert open_results(out).protocol(cat["network"], "insertion").settings["score"].startswith("sigmoid probability")

    words = ("--epsilon", "0:8:4", "--out", str(tmp_path / "attacked"), "--json")
    told = json.loads(command(capsys, "attack", str(CAT), *model, *words))
    (image,) = told["images"]
    assert image["clean"][0]["probability"] == pytest.approx(max(said.values()), abs=1e-6)
    assert image["epsilons"][0]["predicted"] != image["epsilons"][-1]["predicted"]
    assert image["epsilons"][-1]["success"] is True


def test_explain_takes_independent_outputs_where_it_is_said(
    many: Classifier, x: Tensor, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = f"file:{folder / 'many.pth'}"
    model = ("--model", "simple_cnn", "--weights", path, "--device", "cpu")
    for words in ((*model, "--output", "sigmoid"), (*model[:3], f"{path}?output=sigmoid", *model[4:])):
        out = ("--out", str(tmp_path / str(len(words))), "--json")
        told = json.loads(command(capsys, "explain", str(CAT), *words, *out))
        (shown,) = told["images"][0]["models"]
        best = torch.sigmoid(raw(many, x)[0]).sort(descending=True).values
        assert [each["probability"] for each in shown["predictions"]] == pytest.approx(best.tolist(), abs=1e-6)
        assert f"'{path}?output=sigmoid'" in shown["explanations"][0]["command"]  # the same again
    assert main(["explain", str(CAT), "--output", "sigmoid"]) == 2
    assert capsys.readouterr().err.strip() == (
        "error: --output is for --weights file:PATH; other weights know what their outputs mean."
    )


def test_what_a_network_says_where_it_decides_for_none() -> None:
    labels, none, some = ("a", "b"), torch.tensor([-1.0, -0.2]), torch.tensor([-1.0, 0.2])
    assert [Output.SIGMOID.answer(each, labels) for each in (none, some)] == ["none", "b"]
    assert Output.SOFTMAX.answer(none, labels) == "b"
