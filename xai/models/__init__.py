"""Classifiers: one file a model or family."""

from xai.models.classifier import Classifier, LayerInfo
from xai.models.exported import export_network, list_networks
from xai.models.store import list_models, load_exported, load_model, unload_models

__all__ = [
    "Classifier",
    "LayerInfo",
    "export_network",
    "list_models",
    "list_networks",
    "load_exported",
    "load_model",
    "unload_models",
]
