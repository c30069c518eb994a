"""The version of Olhar, in one place: the package, its wheel, manifests and `--version` take it from here."""

__version__ = "0.1.0"
