"""Data sets: folders, zips and shipped samples, with labels where the layout tells them."""

from xai.data._layout import LAYOUTS, imagenet_wnids
from xai.data._spec import SAMPLES, DataSet, Item, Problem, SampleSpec
from xai.data.call import list_samples, open_dataset

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
