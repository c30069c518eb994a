"""Olhar: what does an image classifier look at, and should it be believed?"""

__version__ = "0.1.0"

from xai.explain import applicability, attribute, list_methods
from xai.images import load_image
from xai.models import list_models, load_model

__all__ = ["applicability", "attribute", "list_methods", "list_models", "load_image", "load_model"]
