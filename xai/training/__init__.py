"""Training of classifiers.

recipe = Recipe(epochs=30, trainable="frozen", head="study4")
network = build_network("efficientnet_lite0", "imagenet", labels=("no", "yes"), recipe=recipe)
history = fit(network, train, validation, recipe, Run(seed=recipe.seed))   # two `Images`: uint8 pixels and labels
classifier = network.classifier()
"""

from xai.public import reveal
from xai.training.augment import AUGMENTATIONS
from xai.training.features import Stored, predict, stored_features
from xai.training.figures import Figures, figures
from xai.training.fit import Epoch, History, fit
from xai.training.network import Network, build_network, network_of
from xai.training.pictures import Images, Streamed, open_pictures
from xai.training.recipe import Recipe

__all__ = [
    "AUGMENTATIONS",
    "Epoch",
    "Figures",
    "History",
    "Images",
    "Network",
    "Recipe",
    "Stored",
    "Streamed",
    "build_network",
    "figures",
    "fit",
    "network_of",
    "open_pictures",
    "predict",
    "stored_features",
]

reveal(__name__)
