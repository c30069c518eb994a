"""The bias audit's pictures: the gallery of errors, counterfactual pairs, and the networks with mitigation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any

import streamlit as st
from PIL import Image

from xai.data.call import open_dataset
from xai.data.drawn.pet_factors import Pet
from xai.data.pets import PetImage, balanced_pets, pet_of
from xai.data.spec import Item
from xai.errors import InputError, XaiError
from xai.explain.call import applicability, attribute
from xai.explain.spec import METHODS
from xai.images import render
from xai.images.recolour import recolour
from xai.models.classifier import Classifier
from xai.runs.folder import RunFolder
from xai.studies.bias.groups import mask_of, with_masks
from xai.studies.bias.run import TEST_SEED
from xai.studies.bias.subjects import FACTORS
from xai.studies.bias.train import Experiment
from xai.studies.bias.verdict import group_name
from xai.studies.comparison import cost
from xai.types import Attribution
from xai.ui import figures, runs
from xai.ui.bias_audit.state import KEY, Result, factor_title
from xai.ui.work import Recent

SHOWN = 6
"""Pictures of each group in the gallery, and pairs."""

SIDE = 136
"""Pixels that a picture is shown at."""

PAIR = 132
"""The same in a pair."""

QUICK_SECONDS = 20.0
"""A method that takes longer by estimate for one group of pictures is not offered: the page would stand still."""

_maps: Recent[Attribution] = Recent(48)


@dataclass(frozen=True, eq=False)
class Exhibit:
    """One picture with what is known of it. item: the file that it was read from, with its mask."""

    image: Image.Image
    group: str
    label: int
    pet: Pet | None = None
    item: Item | None = None


_exhibits: Recent[list[Exhibit]] = Recent(12)


def gallery(found: Result) -> None:
    """Pictures whose cue speaks against the class, each with its prediction and where the network looked."""
    st.markdown("**Out of distribution: where the cue speaks for the other class**")
    try:
        network = found.classifier()
        shown = exhibits(found)
        if not shown:
            st.info("No class of this data has a group that is rarer than its others: nothing is out of distribution.")
            return
        method = pick_method(network, SHOWN, f"{KEY}_method")
        maps = explained(network, [each.image for each in shown], method, (str(found.path), "gallery"), found.view)
    except XaiError as error:
        st.warning(runs.plain(str(error)), icon=":material/info:")
        return
    for group in dict.fromkeys(each.group for each in shown):
        st.markdown(runs.plain(f"{group[:1].upper()}{group[1:]}"))
        places = [index for index, each in enumerate(shown) if each.group == group]
        with st.container(horizontal=True, gap="small", key=f"{KEY}_gallery_{group.replace(' ', '_')}"):
            _strip(network, shown, places, maps, found.view, SIDE)
    figures.color_bar(maps.signed, sentence="each map on its own scale")
    st.caption(
        f"{METHODS.get(method).title} of the predicted class over the picture, each map on its own scale, 0 to its "
        f"highest value. The first {SHOWN} pictures of each group of the test set; nothing is picked."
    )


def _strip(
    network: Classifier, shown: Sequence[Exhibit], places: Iterable[int], maps: Attribution, view: str, side: int
) -> None:
    """Some of the pictures, each under its map, with the answer."""
    title = METHODS.get(maps.method).title
    for place in places:
        answer = int(maps.target[place])
        word = f"{network.labels[answer]} {float(maps.probabilities()[place, answer]):.0%}"
        right = answer == shown[place].label
        with st.container(width=side, gap="xsmall"):
            alt = f"{title} of {network.title} on one of the {shown[place].group}, called {word}"
            _picture(over(seen_part(shown[place].image, network, view), maps, place, side), alt)
            st.markdown(f":{'green' if right else 'red'}[{'right' if right else 'wrong'}: {runs.plain(word)}]")


def pairs(found: Result) -> None:
    """The same picture before and after one factor is swapped: probabilities, and the map of both."""
    st.markdown("**Counterfactuals: the same picture, one thing changed**")
    factors = [each for each in FACTORS if found.audit.by_factor(each) is not None]
    factor = found.audit.cue
    if factors:
        factor = str(
            st.segmented_control(
                "What is swapped",
                factors,
                default=factor if factor in factors else factors[0],
                format_func=factor_title,
                key=f"{KEY}_factor",
                persist_state="session",
                required=True,
            )
        )
    elif found.audit.by_factor(factor) is None:
        st.info("No image has a mask that fits, so none is recoloured; begin the audit with masks to see pairs here.")
        return
    try:
        network = found.classifier()
        shown = _exhibits.get((str(found.path), found.stamp, "pairs"), partial(_pair_exhibits, found))
        before = [each.image for each in shown]
        after = [_changed(each, factor) for each in shown]
        names = quick_methods(network, SHOWN)
        method = next(each for each in (st.session_state.get(f"{KEY}_method"), "gradcam", *names) if each in names)
        sides = [
            explained(network, images, method, (str(found.path), "pairs", *which), found.view)
            for images, which in ((before, ("before",)), (after, ("after", factor)))
        ]
    except XaiError as error:
        st.warning(runs.plain(str(error)), icon=":material/info:")
        return
    with st.container(horizontal=True, gap="medium", key=f"{KEY}_pairs"):
        for index, each in enumerate(shown):
            with st.container(width=2 * PAIR + 6, gap="xsmall"):
                images = [seen_part(image, network, found.view) for image in (before[index], after[index])]
                rows = [images, [over(image, maps, index, 2 * PAIR) for image, maps in zip(images, sides, strict=True)]]
                _picture(_grid(rows, 2 * PAIR), f"One of the {each.group}, and with {factor} swapped; below, both maps")
                st.markdown(told(network, sides[0], sides[1], index))
    figures.color_bar(sides[0].signed, sentence="each map on its own scale")
    how = (
        "recoloured inside its mask" if factor not in FACTORS else "with the factor swapped and every other pixel equal"
    )
    st.caption(
        f"Left as it is, right {how}; below, {METHODS.get(method).title} of the predicted class of each, on its own "
        "scale. The probability of the first answer before and after."
    )


def told(network: Classifier, first: Attribution, then: Attribution, place: int) -> str:
    """ "dog 98% → 12%, cat 88% flips" """
    answer, other = int(first.logits[place].argmax()), int(then.logits[place].argmax())
    before, after = first.probabilities()[place], then.probabilities()[place]
    moved = f"{runs.plain(network.labels[answer])} {float(before[answer]):.0%} → {float(after[answer]):.0%}"
    if answer == other:
        return f"{moved} :green[stays]"
    return f"{moved}, {runs.plain(network.labels[other])} {float(after[other]):.0%} :red[flips]"


def mended(found: Result) -> None:
    """The same conflicting pictures under the biased network and each one with mitigation: did the explanation move?"""
    networks = found.arms()
    if len(networks) < 2:
        return
    st.markdown("**The same pictures, network by network**")
    try:
        if not exhibits(found):
            st.info("No class has a group that is rarer among the held-out images: nothing is out of distribution.")
            return
        groups = [list(group)[: SHOWN // 2] for _, group in groupby(exhibits(found), lambda one: one.group)]
        given = not found.drawn and not found.summary["base"]["network"]
        shown = [_as_in_data(each) if given else each for group in groups for each in group]
        method = pick_method(found.classifier(), SHOWN, f"{KEY}_mend_method")
        for title, load in networks.items():
            st.markdown(f"**{title}**")
            network = load()
            maps = explained(network, [each.image for each in shown], method, (str(found.path), "mend"), found.view)
            with st.container(horizontal=True, gap="small", key=f"{KEY}_mended_{title.replace(' ', '_')}"):
                _strip(network, shown, range(len(shown)), maps, found.view, PAIR)
            figures.color_bar(maps.signed, sentence="each map on its own scale")
    except XaiError as error:
        st.warning(runs.plain(str(error)), icon=":material/info:")


def _as_in_data(shown: Exhibit) -> Exhibit:
    """With the class as the data counts classes, and what is trained on them; a given classifier has its own order."""
    label = None if shown.item is None else shown.item.label
    return shown if label is None else replace(shown, label=label)


def exhibits(found: Result) -> list[Exhibit]:
    """The first pictures of every group that conflicts with the cue."""
    return _exhibits.get((str(found.path), found.stamp, "conflicting"), partial(_conflicting, found))


def _conflicting(found: Result) -> list[Exhibit]:
    if found.drawn:
        return _drawn_exhibits(found, aligned=False)
    return _own_exhibits(found, lambda row: not row["aligned"])


def _pair_exhibits(found: Result) -> list[Exhibit]:
    if found.drawn:
        return _drawn_exhibits(found, aligned=True)[::2]
    factor = found.audit.reliance[0].factor
    return _own_exhibits(found, lambda row: f"{factor}_predicted" in row)[::2]


def _drawn_exhibits(found: Result, aligned: bool) -> list[Exhibit]:
    own = Experiment(**found.summary["base"]["experiment"])
    per_group = int(found.summary["request"]["per_group"])
    chosen: dict[str, list[Exhibit]] = {}
    for pet in balanced_pets(per_group, own.cue, TEST_SEED):
        group = group_name(getattr(pet, own.cue), pet.species)
        if pet.aligned(own.cue) == aligned and len(chosen.setdefault(group, [])) < SHOWN:
            label = ("cat", "dog").index(pet.species)
            chosen[group].append(Exhibit(PetImage(pet, own.pixels)(), group, label, pet))
    return [each for group in chosen.values() for each in group]


def _own_exhibits(found: Result, wanted: Callable[[Mapping[str, Any]], bool]) -> list[Exhibit]:
    asked, folder = found.summary["request"], RunFolder(found.path)
    whole = open_dataset(folder.from_here(asked["data"]))
    data = whole if asked["images"] is None else whole.sample(asked["images"], asked["seed"])
    if folder.config().get("data_fingerprint") not in (data.fingerprint, data.used().fingerprint):
        raise InputError(f"the images of {asked['data']} are not those that were audited.")
    listed = data.items
    if asked["masks"]:
        listed = with_masks(listed, folder.from_here(asked["masks"]), {item.key for item in whole.items})[0]
    items = {item.key: item for item in listed}
    counts: dict[str, int] = {}
    shown = []
    for row in found.audit.rows:
        group = group_name(str(row["group"]), found.audit.classes[row["label"]])
        if not wanted(row) or counts.get(group, 0) >= SHOWN:
            continue
        if (item := items.get(row["key"])) is None:
            continue
        counts[group] = counts.get(group, 0) + 1
        shown.append(Exhibit(item.open(), group, int(row["label"]), pet_of(item), item))
    return shown


def _changed(shown: Exhibit, factor: str) -> Image.Image:
    """The counterfactual that the audit measured."""
    if shown.pet is not None and factor in FACTORS:
        return PetImage(shown.pet.swapped(factor), shown.image.width)()
    mask = None if shown.item is None else mask_of(shown.item, shown.image)
    return shown.image if mask is None else recolour(shown.image, mask)


def quick_methods(network: Classifier, images: int) -> list[str]:
    """Methods that apply to the network and take little by estimate."""
    applying = [name for name in METHODS.names() if applicability(network, name).status != "refused"]
    return [name for name in applying if cost(network, name, images).seconds <= QUICK_SECONDS]


def pick_method(network: Classifier, images: int, key: str) -> str:
    """Grad-CAM, or any method that applies and is quick."""
    names = quick_methods(network, images)
    return str(
        st.selectbox(
            "Explained by",
            names,
            index=names.index("gradcam") if "gradcam" in names else 0,
            format_func=lambda name: METHODS.get(name).title,
            key=key,
            persist_state="session",
        )
    )


def explained(
    network: Classifier, images: Sequence[Image.Image], method: str, what: tuple[str, ...], view: str = "crop"
) -> Attribution:
    """Maps of the predicted class of every image; `what` names the images."""

    def make() -> Attribution:
        with st.spinner(f"Explaining with {METHODS.get(method).title} ..."):
            return attribute(network, network.preprocess(images, view), method)

    return _maps.get((network.fingerprint, method, view, *what), make)


def seen_part(image: Image.Image, network: Classifier, view: str) -> Image.Image:
    """The part of the picture that the network sees, so that a map lies where it belongs."""
    box = network.view_box(image.size, view)
    return image.crop((round(box[0]), round(box[1]), round(box[2]), round(box[3])))


def over(image: Image.Image, maps: Attribution, place: int, side: int) -> Image.Image:
    """The map over the picture, `side` pixels wide."""
    scale = render.scale_for([maps], place)
    return render.overlay(_sized(image, side), maps.maps()[place], scale)


def _sized(image: Image.Image, side: int) -> Image.Image:
    return image.resize((side, max(1, round(side * image.height / image.width))), Image.Resampling.LANCZOS)


def _grid(rows: Sequence[Sequence[Image.Image]], side: int, gap: int = 12) -> Image.Image:
    """Pictures of one shape side by side and below one another."""
    sized = [[_sized(image, side) for image in row] for row in rows]
    height = sized[0][0].height
    joined = Image.new("RGBA", (len(rows[0]) * (side + gap) - gap, len(rows) * (height + gap) - gap), (0, 0, 0, 0))
    for down, row in enumerate(sized):
        for across, image in enumerate(row):
            joined.paste(image, (across * (side + gap), down * (height + gap)))
    return joined


def _picture(image: Image.Image, alt: str) -> None:
    st.image(image, output_format="PNG", width="stretch", alt=alt)
