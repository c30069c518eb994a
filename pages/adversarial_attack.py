"""Adversarial attack: move epsilon, watch the prediction and the explanation turn."""

import streamlit as st

from xai.ui import picture, shell
from xai.ui.adversarial_attack import forms as attack_forms
from xai.ui.adversarial_attack import state as attack
from xai.ui.live import Live
from xai.ui.work import Scene

shell.enter()

KEY = "aa"
choice = attack.current()
head = st.container(key="olhar-head").columns([1, 1], vertical_alignment="center")
head[0].title("Adversarial attack")
progress = head[1].empty()
said = st.empty()

top = st.columns([10, 11, 15], gap="medium")
with top[0]:
    picture.pick(choice, KEY, "row0")
with top[1]:
    attack_forms.network(choice, KEY)
with top[2]:
    attack_forms.plan(choice, KEY)

live = Live(choice, KEY)
scene = Scene(choice.photo, choice.view, choice.nets[0])
live.look("row0", scene)
look = live.looked(scene)
known = attack_forms.known(scene)
with top[1]:
    layer = attack_forms.explanation(choice, look, KEY)

one, many = st.tabs(["One picture", "Many pictures"], key=f"{KEY}_tabs", on_change="rerun")
with one:
    if one.open:
        attack_forms.one(choice, live, scene, layer, f"{KEY}_sweep")
with many:
    if many.open:
        attack_forms.many(choice, live, scene, layer, KEY)

if told := choice.told((choice.photo.sha, choice.picked, tuple(attack.to_query(choice).items()))):
    said.warning(told, icon=":material/info:")
live.follow(progress)
if attack_forms.known(scene) != known:
    st.rerun()  # the network has been loaded, or could not be: now the page knows what a study costs
