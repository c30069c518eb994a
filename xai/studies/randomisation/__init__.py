"""The study of whether explanations depend on the network's weights."""
