"""GAN augmentation: a generator, its samples, and whether they help a classifier."""

import streamlit as st

from xai.ui import shell
from xai.ui.gan_augmentation import forms as gan_forms
from xai.ui.gan_augmentation import show as gan_show
from xai.ui.gan_augmentation import state as gan
from xai.ui.gan_augmentation import study as gan_study

shell.enter()

KEY = "ga"
st.title("GAN augmentation")
drawers, studies = gan.generators(), gan.studies()
headline = st.empty()
draws, helps, looks, begins = st.tabs(
    ["The generator", "Does it help?", "What it looks at", "Your own runs"], key=f"{KEY}_tabs"
)

with draws:
    chosen = gan_show.choose(drawers, "Generator", f"{KEY}_generator")
    made = gan_show.opened(chosen)
    if made is not None and chosen is not None:
        gan_show.about(made)
        gan_show.sliders(made, KEY)
    gan_show.beside(made, KEY)
    if made is not None and chosen is not None:
        gan_show.quality(chosen, made, KEY)
        gan_show.nearest(made, KEY)
        gan_show.reconstructions(chosen, made, KEY)
        gan_show.again(chosen, made, KEY)

with helps:
    source = gan_show.choose(studies, "Study", f"{KEY}_study")
    study = gan_study.opened(source)
    if study is not None:
        gan_study.verdict(study)
        gan_study.arms(study, KEY)
        gan_study.made_by(study, source is not None and source.key == "shipped")

with looks:
    if study is None:
        st.info("The maps of both networks appear here once there is a study.", icon=":material/info:")
    else:
        gan_study.attention(study, KEY)

with begins:
    gan_forms.own(drawers, KEY)

headline.markdown(gan_study.headline(study))
