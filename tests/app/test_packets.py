"""What is sent to the browser: bytes that decode to the map, with the scales that the package prints."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from xai.images.render import relief, scale_for
from xai.types import Run
from xai.ui.browser import packet, quantised
from xai.ui.tiles import map_packet, plain_packet, view_packet
from xai.ui.work import Ask, Look, Net, Scene, Shown, explain, look, samples


@pytest.fixture(scope="module")
def seen() -> Look:
    return look(Scene(samples()["chelsea"], "crop", Net("efficientnet_lite0")), Run())


def opened(data: bytes) -> tuple[dict[str, Any], bytes]:
    size = int.from_bytes(data[:4], "little")
    return json.loads(data[4 : 4 + size]), data[4 + size :]


def values(head: dict[str, Any], body: bytes) -> NDArray[np.float64]:
    """As paint.js reads them."""
    count = head["h"] * head["w"]
    if head["dtype"] == "f4":
        return np.frombuffer(body, "<f4", count).reshape(head["h"], head["w"]).astype(float)
    steps = np.frombuffer(body, "<i2", count).reshape(head["h"], head["w"]).astype(float)
    return np.where(steps == -32768, np.nan, steps * head["peak"] / 32767)


def shown(seen: Look, method: str) -> Shown:
    found = explain(Ask(seen.scene, method, target=281), seen, Run())
    assert isinstance(found, Shown)
    return found


def test_a_coarse_map_is_sent_as_it_is(seen: Look) -> None:
    found = shown(seen, "gradcam")
    head, body = opened(map_packet(found))
    assert (values(head, body) == found.attribution.values[0].numpy()).all()
    scale = scale_for([found.attribution])
    assert head["scales"] == {"plain": {"low": scale.low, "high": scale.high, "sentence": scale.sentence}}
    assert head["coarse"]
    assert head["caption"].startswith("for tabby, ")


def test_a_fine_map_keeps_sixteen_bits_its_sign_and_its_colours(seen: Look) -> None:
    found = shown(seen, "inputxgradient")
    head, body = opened(map_packet(found))
    wanted = found.attribution.values[0].sum(0).numpy()
    assert np.abs(values(head, body) - wanted).max() <= np.abs(wanted).max() / 32767
    assert set(head["scales"]) == {"signed", "strength"}
    assert head["scales"]["signed"]["high"] == pytest.approx(head["scales"]["strength"]["high"])
    drawn = np.frombuffer(body[head["relief"] :], np.uint8).reshape(224, 224, 3)
    assert (drawn == np.asarray(relief(found.attribution.values[0]))).all()


def test_the_view_is_the_networks_input(seen: Look) -> None:
    head, body = opened(view_packet(seen))
    assert (np.asarray(Image.open(io.BytesIO(body))) == np.asarray(seen.picture)).all()
    assert [entry["rank"] for entry in head["top"]] == [1, 2, 3, 4, 5]
    left, top, right, bottom = head["box"]
    # 451 x 300: the short side becomes 256, the crop 224 of it
    assert (top, bottom) == pytest.approx((1 / 16, 15 / 16), abs=0.01)
    assert (right - left) * 451 == pytest.approx((bottom - top) * 300, rel=0.02)


def test_what_is_not_finite_stays_so() -> None:
    array = np.array([[np.nan, -2.0], [1.0, np.inf]], dtype=np.float32).repeat(64, 0).repeat(64, 1)
    kind, peak, body = quantised(array)
    back = values({"h": 128, "w": 128, "dtype": kind, "peak": peak}, body)
    assert np.isnan(back[:64, :64]).all()
    assert np.isnan(back[64:, 64:]).all()
    assert back[0, 64] == pytest.approx(-2)
    assert back[64, 0] == pytest.approx(1, abs=1e-4)


def test_a_map_of_zeros_and_one_without_a_finite_value_can_be_sent(seen: Look) -> None:
    for fill in (0.0, np.nan):
        head, body = opened(plain_packet("z", seen, np.full((224, 224), fill, np.float32), True, "nothing"))
        assert head["scales"]["signed"]["high"] == 0
        assert len(body) == 2 * 224 * 224


def test_a_header_is_strict_json() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        packet({"value": float("nan")})
