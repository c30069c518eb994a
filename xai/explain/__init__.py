"""Explanations: one method a file; the file's name is the method's name in the registry."""

from xai.explain.call import applicability, attribute, list_methods

__all__ = ["applicability", "attribute", "list_methods"]
