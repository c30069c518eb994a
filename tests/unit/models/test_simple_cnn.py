"""SimpleCNN: four convolutions, loadable with any number of classes, honest about weights that do not exist."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import xai
from xai.errors import WeightsError
from xai.models.census import census
from xai.models.simple_cnn import SimpleCNN


def test_it_has_four_convolutions_and_eight_by_eight_maps() -> None:
    clf = xai.load_model("simple_cnn", weights="random:0", device="cpu")
    assert (clf.labels, clf.input_size, clf.random) == (("cat", "dog"), (64, 64), True)
    counted = census(clf)
    assert (counted.count("conv2d"), counted.count("relu"), counted.count("linear")) == (4, 4, 1)
    # 3*16*9+16, 16*32*9+32, 32*64*9+64, 64*64*9+64 and 64*2+2
    assert sum(p.numel() for p in clf.module.parameters()) == 448 + 4640 + 18496 + 36928 + 130
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert xai.attribute(clf, x, "gradcam").values.shape == (2, 8, 8)
    assert xai.attribute(clf, x, "lrp").maps().shape == (2, 64, 64)


def test_the_head_follows_the_number_of_classes(tmp_path: Path) -> None:
    net: nn.Module = SimpleCNN(5)
    save_file(net.state_dict(), tmp_path / "five.safetensors")
    (tmp_path / "five.txt").write_text("a\nb\nc\nd\ne\n", encoding="utf-8")
    clf = xai.load_model("simple_cnn", weights=f"file:{tmp_path / 'five.safetensors'}", device="cpu")
    assert clf.labels == ("a", "b", "c", "d", "e")
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = net.eval()((x - 0.5) / 0.25)
    torch.testing.assert_close(clf.predict(x), expected)


def test_there_are_no_imagenet_weights() -> None:
    with pytest.raises(WeightsError, match=r"^SimpleCNN was never trained on ImageNet; train one .*random:0"):
        xai.load_model("simple_cnn", device="cpu")
