"""Classifiers: one file a model or family."""

from xai.models.classifier import Classifier, LayerInfo
from xai.models.store import list_models, load_model, unload_models

__all__ = ["Classifier", "LayerInfo", "list_models", "load_model", "unload_models"]
