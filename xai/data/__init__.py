"""Data sets: folders, zips and shipped samples, with labels where the layout tells them."""

from xai.data.call import list_samples, open_dataset
from xai.data.layout import LAYOUTS, imagenet_wnids
from xai.data.spec import SAMPLES, DataSet, Item, Problem, SampleSpec

__all__ = [
    "LAYOUTS",
    "SAMPLES",
    "DataSet",
    "Item",
    "Problem",
    "SampleSpec",
    "imagenet_wnids",
    "list_samples",
    "open_dataset",
]
