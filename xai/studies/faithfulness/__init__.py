"""The study of how faithful explanations are to the network."""
