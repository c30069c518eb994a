"""What a set of attacked pictures keeps of each: where it turns, what it becomes, and a small view."""

from __future__ import annotations

import io

from PIL import Image

from xai.attacks import fgsm
from xai.types import Run
from xai.ui.adversarial_attack.many import VIEW, SetRequest
from xai.ui.adversarial_attack.state import Plan
from xai.ui.work import Net, Scene, samples


def test_each_picture_says_what_it_becomes_where_it_turns() -> None:
    net, photos, plan = Net("efficientnet_lite0"), tuple(samples().values())[-2:], Plan(attack="fgsm")
    classifier = net.load()
    found = SetRequest(photos, "crop", net, plan, None, (0, 32)).study(Run())
    moved = [fgsm(classifier, Scene(each, "crop", net).tensor(classifier), epsilon=plan.reach) for each in photos]
    assert found.becomes == tuple(classifier.labels[int(each.logits_after.argmax())] for each in moved)
    assert len({*found.says, *found.becomes}) == 4
    assert [Image.open(io.BytesIO(view)).size for view in found.views] == [(VIEW, VIEW)] * 2
    still = SetRequest(photos[:1], "crop", net, plan, None, (0,)).study(Run())
    assert still.becomes == ("",)
    assert still.smallest == ("none of those tried",)
    assert all(text.endswith("/255 or less") for text in found.smallest)
