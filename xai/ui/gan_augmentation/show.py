"""The generator on the GAN page: real beside generated, walks, truncation, nearest pictures, quality."""

from __future__ import annotations

import json
import shlex
from functools import partial
from typing import Any, Literal

import streamlit as st

from xai.errors import InputError, XaiError
from xai.files import safe_name
from xai.gan.sample import gif, grid_png
from xai.gan.saved import Generator
from xai.gan.watch import looks
from xai.images.render import png_bytes
from xai.runs.folder import RunFolder
from xai.ui import downloads, runs
from xai.ui.browser import HIDDEN, carry
from xai.ui.gan_augmentation import live as gan_live
from xai.ui.gan_augmentation import state as gan
from xai.ui.gan_augmentation.state import Source
from xai.ui.uploads import named

PAIR = 132
"""Width of a sample beside its nearest picture, in pixels: six in a row of a wide page, two of a narrow one."""

FEW = 160
"""Width of a reconstruction, in pixels, where there are too few for a row."""

SEEDS = 10_000
"""Seeds that the page offers."""

MISSING = (
    "No generator is here yet: the shipped one (assets/gan/parts.safetensors) is missing, and no training is done; "
    "begin one under Your own runs. Until then these are real pictures."
)


def choose(found: list[Source], label: str, key: str) -> Source | None:
    """Which of those that there are; None where there is none."""
    if not found:
        return None
    by_key = {each.key: each for each in found}
    if st.session_state.get(f"{key}_begun") in by_key:
        st.session_state[key] = st.session_state.pop(f"{key}_begun")  # it was begun here and is done
    gan.settle(key, list(by_key))
    if len(found) == 1:
        st.caption(f"{label}: **{runs.plain(found[0].title)}**")
        return found[0]
    called = runs.labels(key, {each.key: each.title for each in found})
    chosen = st.selectbox(label, list(by_key), format_func=called, key=key, persist_state="session")
    return by_key.get(chosen, found[0])


def opened(source: Source | None) -> Generator | None:
    """The generator; a refusal is said."""
    if source is None:
        return None
    try:
        return gan.open_generator(source)
    except (XaiError, OSError) as error:
        st.error(gan.sentence(error), icon=":material/error:")
        return None


def about(made: Generator) -> None:
    """What it is, and on what it was trained."""
    facts, s, count = made.facts, made.settings, len(gan.class_names(made))
    if facts.get("synthetic"):
        st.markdown(":orange-badge[synthetic pictures]")
    st.caption(
        f"{'FastGAN' if s.architecture == 'fastgan' else 'DCGAN'}, {s.size} px, {count} class{'es' * (count > 1)}, "
        f"{facts.get('steps', 0):,} steps of {s.batch} images on {facts.get('train_images', 0):,} training pictures of "
        f"{runs.plain(named(facts.get('data_name', 'unnamed data')))}, seed {facts.get('seed', 0)}, "
        f"weights {made.fingerprint}."
    )


def beside(made: Generator | None, key: str) -> None:
    """Real pictures beside generated ones, a row a class."""
    if made is None:
        st.info(MISSING, icon=":material/info:")
    try:
        real = gan.real_pictures(made)
    except (InputError, OSError) as error:
        st.warning(f"The training pictures cannot be shown: {gan.sentence(error)}", icon=":material/info:")
        real = None
    left, right = st.columns(2, gap="large")
    if real is not None:
        with left:
            picture = gan.grid(real.images, real.labels, real.classes or ("any",))
            st.markdown("**Real**, from the training share")
            _picture(picture, "Real pictures, a row a class", "real.png", f"{key}_real")
    with right:
        if made is None:
            st.markdown("**Train one**")
            st.code(
                f"python -m xai gan train {gan.FALLBACK} --size 64 --steps 12000 --out runs/parts",
                language=None,
                wrap_lines=True,
            )
            return
        first = int(st.session_state[f"{key}_seed"])
        images, labels = gan.samples_of(made, first, gan.REAL, None)
        st.markdown(f"**Generated**, seeds {first} to {first + gan.REAL - 1} in every class")
        picture = gan.grid(images, labels, gan.class_names(made))
        _picture(picture, "Generated pictures, a row a class", f"generated-{first}.png", f"{key}_made")


def _picture(picture: Any, alt: str, name: str, key: str, width: int | Literal["stretch"] = "stretch") -> None:
    st.image(picture, output_format="PNG", width=width, alt=alt)
    downloads.button("PNG", partial(png_bytes, picture), name, "image/png", key=f"{key}_png")


def sliders(made: Generator, key: str) -> None:
    """The walk and the truncation, each a slider that answers in the browser; the walk as a GIF."""
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**From one sample to another**")
        with st.container(horizontal=True):
            first = int(
                st.number_input("Walk from seed", 0, SEEDS, 0, key=f"{key}_from", persist_state="session", width=140)
            )
            second = int(st.number_input("to seed", 0, SEEDS, 1, key=f"{key}_to", persist_state="session", width=140))
        walk, data = gan.walk_packet(made, first, second, None)
        gan.mount_frames(f"{key}_walk", walk)
        names = gan.class_names(made)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            gan.settle(f"{key}_gif_class", names)
            name = st.selectbox("As an animation", names, key=f"{key}_gif_class", persist_state="session", width=180)
            label = names.index(name)
            file = safe_name(f"{name}-{first}-{second}.gif")
            downloads.button(
                "GIF",
                lambda: gif(gan.walk_frames(made, first, second, label, None)),
                file,
                "image/gif",
                key=f"{key}_gif",
            )
        st.caption("Spherical interpolation between two latent points; a generator that copies would jump.")
    with right:
        st.markdown("**Truncation**")
        seed = int(st.number_input("First seed", 0, SEEDS, 0, key=f"{key}_seed", persist_state="session", width=140))
        cut, other = gan.truncation_packet(made, seed)
        gan.mount_frames(f"{key}_trunc", cut)
        st.caption(
            "The latent numbers are cut off at ±t (Brock et al. 2019). Meant to trade variety for quality, which not "
            "every network bears: where contrast (in percent of that without truncation) is lost, samples fade instead "
            "of becoming more typical."
        )
    with st.container(key=f"{HIDDEN}-{key}-frames"):
        carry(data)
        carry(other)


def again(source: Source, made: Generator, key: str) -> None:
    """The commands that make all of it again; of a run, how it was trained."""
    try:
        rows = RunFolder(source.path).metrics() if source.path.is_dir() else []
    except InputError as error:
        st.warning(runs.plain(str(error)), icon=":material/info:")
        rows = []
    if rows:
        st.subheader("How it was trained")
        gan_live.training(rows, f"{key}_trained")
        seen = partial(json.dumps, {"facts": dict(made.facts), "looks": looks(rows)}, indent=1)
        downloads.button("JSON", seen, "training.json", "application/json", key=f"{key}_looks")
    with st.expander("The commands that make it again"):
        walk = int(st.session_state[f"{key}_from"]), int(st.session_state[f"{key}_to"])
        st.code(gan.commands(source, made, int(st.session_state[f"{key}_seed"]), walk), language=None, wrap_lines=True)


def nearest(made: Generator, key: str) -> None:
    """The nearest training picture beside each sample: looked for when asked, it reads the whole training share."""
    st.markdown("**Does it copy?** The nearest training picture beside each sample")
    first = int(st.session_state[f"{key}_seed"])
    place = f"{key}_nearest_{made.fingerprint}_{first}"
    if place not in st.session_state:
        count = f"{made.facts.get('train_images', 0):,}"
        st.caption(
            f"Reads all {count} training pictures and compares their features; thousands take a minute or two on two "
            "cores."
        )
        if not st.button("Look for them", key=f"{key}_nearest_go", icon=":material/search:"):
            return
        bar = st.progress(0.0, "reading")

        def show(done: int, total: int, note: str) -> None:
            bar.progress(min(1.0, done / max(1, total)), note)

        try:
            found = gan.nearest_of(made, first, show)
        except (XaiError, OSError) as error:
            bar.empty()
            st.warning(gan.sentence(error), icon=":material/info:")
            return
        bar.empty()
        st.session_state[place] = found
    found = st.session_state[place]
    names = gan.class_names(made)
    with st.container(horizontal=True):
        for index in range(len(found.pairs)):
            name = names[int(found.labels[index])]
            caption = f"{name}, seed {first + index} | {found.keys[index]}, {found.distances[index]:.1f}"
            st.image(
                gan.sheet(found.pairs[index : index + 1], 1),
                output_format="PNG",
                width=PAIR,
                caption=caption,
                alt=f"Sample and nearest picture: {caption}",
            )
    st.caption(f"Left the sample, right the training picture; the number is the {found.measure}.")
    downloads.button("PNG", partial(grid_png, found.pairs), f"nearest-{first}.png", "image/png", key=f"{key}_near_png")


def reconstructions(source: Source, made: Generator, key: str) -> None:
    """What the discriminator must be able to draw, where there is one."""
    st.markdown("**What the discriminator can draw again**")
    try:
        picture = gan.reconstructed(source, made, gan.real_pictures(made))
    except (XaiError, OSError) as error:
        st.caption(gan.sentence(error))
        return
    count = len(gan.class_names(made))
    width: int | Literal["stretch"] = "stretch" if count > 4 else FEW * count
    _picture(picture, "Real pictures above their reconstructions", "reconstructed.png", f"{key}_again", width)
    st.caption(
        "Above real pictures at the decoder's size, below what its decoder draws of the discriminator's features."
    )


def quality(source: Source, made: Generator, key: str) -> None:
    """The judgement: samples between real pictures and noise, in named features."""
    st.subheader("How good are the samples?")
    told = gan.quality_of(source, made)
    if told is None:
        st.caption("Nobody has judged this generator yet. This does, and the table appears here:")
        place = gan.near(source.path)
        folder = place if source.path.is_dir() else place.parent
        command = ["python", "-m", "xai", "gan", "quality", str(place), "--out", str(folder / "quality.json")]
        st.code(shlex.join(command), language=None, wrap_lines=True)
        return
    rows = []
    for name, title in (("samples", "samples"), ("reference", "real against real"), ("noise", "noise")):
        each = told[name]
        kid, spread = each["kid"], each["manifold"]
        rows.append(
            {
                "pictures": f"**{title}**" if name == "samples" else title,
                f"KID-{told['extractor']} × 1000 ↓": f"{kid['value']:.1f}"
                + (f" ± {kid['spread']:.1f}" if kid["spread"] is not None else ", no spread"),
                f"FID-{told['extractor']} ↓": f"{each['fid']:.1f}",
                "precision ↑": f"{spread['precision']:.2f}",
                "recall ↑": f"{spread['recall']:.2f}",
                "density ↑": f"{spread['density']:.2f}",
                "coverage ↑": f"{spread['coverage']:.2f}",
                "n": each["n"],
            }
        )
    st.table(rows, border="horizontal", hide_index=True)
    cut = told.get("truncation")
    st.caption(
        f"{f'Samples cut off at ±{cut:g}. ' if cut else ''}n: pictures, each set against "
        f"{told['samples']['n_real']:,} held-out real ones. Features: {told['extractor_sentence']}; these are not "
        "Inception's, so the figures compare with one another only. KID "
        f"is unbiased on few pictures, ± is its spread over {told['samples']['kid']['subsets']} subsets (none "
        "where too few pictures make but one subset); FID is biased "
        "upwards, the more the smaller n is. Precision and density are high also where a few far-off real pictures "
        "reach everything, as noise can show: read them with recall and coverage."
    )
    with st.container(horizontal=True):
        ratio = told["copying"]["ratio"]
        st.metric(
            "Nearest training picture, ratio", f"{ratio:.2f}", help="About 1 as far as new photographs; near 0 copies."
        )
        st.metric(
            "Diversity in a class", f"{told['pixel_ratio']:.2f}", help="Pixel distance within a class over real ones'."
        )
        if told.get("agreement"):
            agreed = told["agreement"]
            own = f"{100 * agreed['accuracy']:.0f} %"
            words = f"By {agreed['classifier']}, which names {own} of held-out real pictures rightly."
            st.metric("Class agreement", f"{100 * agreed['agreement']:.0f} %", help=words)
    st.caption(f"Memorisation: {told['copying_sentence']} ({told['copying']['measure']}).")
    agreed = (told.get("agreement") or {}).get("by_class", {})
    classes = [
        {"class": name, "diversity": round(ratio, 2), "class agreement": f"{100 * agreed[name]:.0f} %"}
        for name, ratio in told.get("by_class", {}).items()
        if name in agreed
    ]
    if classes:
        with st.expander("By class"):
            st.dataframe(classes, hide_index=True, width="stretch")
    downloads.button(
        "JSON", partial(json.dumps, told, indent=1), "quality.json", "application/json", key=f"{key}_quality"
    )
