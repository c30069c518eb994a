"""The bias audit's pictures: the gallery of what it gets wrong, and counterfactual pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st
from PIL import Image

from xai import render
from xai.data._pet_factors import Pet
from xai.data._spec import DataSet
from xai.data.call import open_dataset
from xai.data.pets import PetImage, balanced_pets
from xai.errors import XaiError
from xai.explain._spec import METHODS
from xai.explain.call import applicability, attribute
from xai.models.classifier import Classifier
from xai.studies._bias_subjects import FACTORS
from xai.studies._bias_train import Experiment
from xai.studies._bias_verdict import group_name
from xai.studies.bias_run import TEST_SEED
from xai.types import Attribution
from xai.ui import runs
from xai.ui.bias import KEY, Result, factor_title
from xai.ui.work import Recent

SHOWN = 6
"""Pictures of each group in the gallery, and pairs."""

SIDE = 164
"""Pixels that a picture is shown at."""

_maps: Recent[Attribution] = Recent(32)
_sets: Recent[DataSet] = Recent(4)


@dataclass(frozen=True, eq=False)
class Exhibit:
    """One picture with what is known of it."""

    image: Image.Image
    group: str
    label: int
    pet: Pet | None = None


def gallery(found: Result) -> None:
    """Pictures whose cue speaks against the class, each with its prediction and where the network looked."""
    st.markdown("**Out of distribution: where the cue speaks for the other class**")
    try:
        network = found.classifier()
        shown = exhibits(found)
    except XaiError as error:
        st.warning(runs.plain(str(error)), icon=":material/info:")
        return
    if not shown:
        st.info("Every image of this data has its class's usual group: there is nothing out of distribution.")
        return
    method = _method(network)
    try:
        maps = _explained(network, shown, method, "gallery", found)
    except XaiError as error:
        st.warning(runs.plain(str(error)), icon=":material/info:")
        return
    probabilities = maps.probabilities()
    for group in dict.fromkeys(each.group for each in shown):
        places = [index for index, each in enumerate(shown) if each.group == group]
        st.markdown(f"{group[:1].upper()}{group[1:]}")
        with st.container(horizontal=True, gap="small", key=f"{KEY}_gallery_{group.replace(' ', '_')}"):
            for place in places:
                answer = int(maps.target[place])
                right = answer == shown[place].label
                word = f"{network.labels[answer]} {float(probabilities[place, answer]):.0%}"
                with st.container(width=SIDE, gap="xsmall"):
                    alt = f"{METHODS.get(method).title} on one of the {group}, called {word}"
                    _picture(_over(shown[place].image, maps, place), alt)
                    st.markdown(f":{'green' if right else 'red'}[{'right' if right else 'wrong'}: {word}]")
    st.caption(
        f"{METHODS.get(method).title} of the predicted class over the picture, each map on its own scale, 0 to its "
        f"highest value. The first {SHOWN} pictures of each group of the test set; nothing is picked."
    )


def pairs(found: Result) -> None:
    """The same picture before and after one factor is swapped, with the probability of the first answer."""
    st.markdown("**Counterfactuals: the same animal, one thing changed**")
    if not found.drawn:
        st.info("Counterfactual pairs are drawn for the generated animals; for a photograph use the box below.")
        return
    try:
        network = found.classifier()
    except XaiError as error:
        st.warning(runs.plain(str(error)), icon=":material/info:")
        return
    factor = st.segmented_control(
        "What is swapped",
        FACTORS,
        default=found.audit.cue,
        format_func=factor_title,
        key=f"{KEY}_factor",
        required=True,
    )
    factor = str(factor or found.audit.cue)
    pixels = Experiment(**found.summary["base"]["experiment"]).pixels
    pets = [each.pet for each in exhibits(found, aligned=True) if each.pet is not None][::2]
    before = [PetImage(pet, pixels)() for pet in pets]
    after = [PetImage(pet.swapped(factor), pixels)() for pet in pets]
    first = network.predict(network.preprocess(before)).double().softmax(1)
    then = network.predict(network.preprocess(after)).double().softmax(1)
    with st.container(horizontal=True, gap="medium", key=f"{KEY}_pairs"):
        for index, pet in enumerate(pets):
            answer = int(first[index].argmax())
            flipped = int(then[index].argmax()) != answer
            word = network.labels[answer]
            with st.container(width=2 * 132 + 6, gap="xsmall"):
                _picture(_beside(before[index], after[index]), f"a {pet.species}, and with {factor} swapped")
                moved = f"{word} {float(first[index, answer]):.0%} → {float(then[index, answer]):.0%}"
                st.markdown(f"{moved} :red[flips]" if flipped else f"{moved} :green[stays]")
    st.caption(
        "Left as drawn, right with the factor swapped and every other pixel equal; the probability of the first answer "
        "before and after."
    )


def exhibits(found: Result, aligned: bool = False) -> list[Exhibit]:
    """The first pictures of every group that conflicts with the cue, or agrees with it."""
    if found.drawn:
        own = Experiment(**found.summary["base"]["experiment"])
        per_group = int(found.summary["request"]["per_group"])
        chosen: dict[str, list[Exhibit]] = {}
        for pet in balanced_pets(per_group, own.cue, TEST_SEED):
            group = group_name(getattr(pet, own.cue), pet.species)
            if pet.aligned(own.cue) == aligned and len(chosen.setdefault(group, [])) < SHOWN:
                label = ("cat", "dog").index(pet.species)
                chosen[group].append(Exhibit(PetImage(pet, own.pixels)(), group, label, pet))
        return [each for group in chosen.values() for each in group]
    return _own_exhibits(found, aligned)


def _own_exhibits(found: Result, aligned: bool) -> list[Exhibit]:
    data = _sets.get(found.summary["request"]["data"], lambda: open_dataset(found.summary["request"]["data"]))
    items = {item.key: item for item in data.items}
    counts: dict[str, int] = {}
    shown = []
    for row in found.audit.rows:
        group = group_name(str(row["group"]), found.audit.classes[row["label"]])
        if row["aligned"] != aligned or counts.get(group, 0) >= SHOWN or row["key"] not in items:
            continue
        counts[group] = counts.get(group, 0) + 1
        shown.append(Exhibit(items[row["key"]].open(), group, int(row["label"])))
    return shown


def _method(network: Classifier) -> str:
    """Grad-CAM, or any method that applies."""
    names = [name for name in METHODS.names() if applicability(network, name).status != "refused"]
    return str(
        st.selectbox(
            "Explained by",
            names,
            index=names.index("gradcam") if "gradcam" in names else 0,
            format_func=lambda name: METHODS.get(name).title,
            key=f"{KEY}_method",
            persist_state="session",
        )
    )


def _explained(network: Classifier, shown: Sequence[Exhibit], method: str, what: str, found: Result) -> Attribution:
    def make() -> Attribution:
        with st.spinner(f"Explaining with {METHODS.get(method).title} ..."):
            return attribute(network, network.preprocess([each.image for each in shown]), method)

    return _maps.get((str(found.path), network.fingerprint, method, what), make)


def _over(image: Image.Image, maps: Attribution, place: int) -> Image.Image:
    scale = render.scale_for([maps], place)
    large = image.resize((SIDE, round(SIDE * image.height / image.width)), Image.Resampling.LANCZOS)
    return render.overlay(large, maps.maps()[place], scale, render.colors_for(render.AUTO, scale.signed))


def _beside(first: Image.Image, second: Image.Image) -> Image.Image:
    side, gap = 264, 12
    joined = Image.new("RGBA", (2 * side + gap, side), (0, 0, 0, 0))
    for place, image in enumerate((first, second)):
        joined.paste(image.resize((side, side), Image.Resampling.LANCZOS), (place * (side + gap), 0))
    return joined


def _picture(image: Image.Image, alt: str) -> None:
    st.image(image, output_format="PNG", width="stretch", alt=alt)
