"""Metrics: one a file. Every value travels with its protocol, since values of different protocols do not compare."""

from xai.metrics._masks import mask_of_box
from xai.metrics.area import area
from xai.metrics.curves import CurveSet, curves, picture_at, pictures_at, precision_error
from xai.metrics.deletion import deletion
from xai.metrics.drop import drop, increase
from xai.metrics.energy import energy
from xai.metrics.entropy import entropy
from xai.metrics.insertion import insertion
from xai.metrics.pointing import pointing
from xai.metrics.protocol import PROTOCOLS, CurveProtocol, get_protocol
from xai.metrics.randomisation import randomisation
from xai.metrics.road import road
from xai.metrics.sparseness import sparseness
from xai.metrics.spec import METRICS, MetricSpec
from xai.metrics.substrate import SUBSTRATES
from xai.public import reveal

__all__ = [
    "METRICS",
    "PROTOCOLS",
    "SUBSTRATES",
    "CurveProtocol",
    "CurveSet",
    "MetricSpec",
    "area",
    "curves",
    "deletion",
    "drop",
    "energy",
    "entropy",
    "get_protocol",
    "increase",
    "insertion",
    "mask_of_box",
    "picture_at",
    "pictures_at",
    "pointing",
    "precision_error",
    "randomisation",
    "road",
    "sparseness",
]

reveal(__name__)
