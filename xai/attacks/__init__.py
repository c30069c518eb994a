"""Attacks: one a file. Epsilon is in pixel units of [0, 1]; the network normalises inside."""

from xai.attacks.call import attack, sweep
from xai.attacks.fgsm import fgsm
from xai.attacks.pgd import pgd
from xai.public import reveal

__all__ = ["attack", "fgsm", "pgd", "sweep"]

reveal(__name__)
