"""A private copy of a classifier: the same answers, a lease of its own, nothing shared that could change."""

from __future__ import annotations

import threading

import torch

from xai.explain import attribute
from xai.models.classifier import Classifier


def test_a_private_copy_answers_alike_and_is_leased_beside_the_shared_one(tiny: Classifier) -> None:
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    wanted = attribute(tiny, x, "gradcam")
    copied = tiny.private()
    assert copied.fingerprint == tiny.fingerprint
    assert copied.module is not tiny.module
    shared = {tensor.data_ptr() for tensor in tiny.module.state_dict().values()}
    assert not shared & {tensor.data_ptr() for tensor in copied.module.state_dict().values()}
    found = []
    with tiny.lease():  # held by this thread for as long as the other one works
        thread = threading.Thread(target=lambda: found.append(attribute(copied, x, "gradcam")))
        thread.start()
        thread.join(10)
    assert torch.equal(found[0].values, wanted.values)
    assert not any(parameter.requires_grad for parameter in copied.module.parameters())
    assert not copied.module.training
