"""The study of whether synthetic pictures help a classifier."""
