"""Olhar's entry file: which pages there are. A new page is a new file in `pages/` and one line here.

`streamlit run` finds `app` and serves it; each visitor's script is this file again, run as `__main__`.
"""

import streamlit as st

from xai.ui import shell
from xai.ui.doors import OWN_HOSTS
from xai.ui.shell import Page

SECTIONS = {
    "": [
        Page("pages/home.py", "Start", ":material/home:", default=True),
    ],
    "Explain": [
        Page(
            "pages/method_comparison.py",
            "Method comparison",
            ":material/compare:",
            "Where did the network look, and do the methods agree?",
        ),
    ],
    "Test": [
        Page(
            "pages/adversarial_attack.py",
            "Adversarial attack",
            ":material/bolt:",
            "How small a change turns the answer, and what happens to the explanation?",
        ),
        Page(
            "pages/metric_curves.py",
            "Metric curves",
            ":material/show_chart:",
            "Is the explanation faithful?",
        ),
    ],
    "Train": [
        Page(
            "pages/transfer_learning.py",
            "Transfer learning",
            ":material/model_training:",
            "Train on your own images; where does it go wrong, and why?",
        ),
        Page(
            "pages/runs.py",
            "Runs",
            ":material/list:",
            "What is being trained, what was, and with which settings?",
        ),
        Page(
            "pages/bias_audit.py",
            "Bias audit",
            ":material/balance:",
            "Does it decide by what it should, or by a shortcut?",
        ),
        Page(
            "pages/gan_augmentation.py",
            "GAN augmentation",
            ":material/auto_awesome:",
            "Does synthetic data help, and what does it do to the attention?",
        ),
    ],
}

app = st.App(__file__, middleware=OWN_HOSTS)

if __name__ == "__main__":
    shell.run(SECTIONS)
