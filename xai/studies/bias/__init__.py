"""The study of what a classifier relies on, and how a bias is mitigated."""
