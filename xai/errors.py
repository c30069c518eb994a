"""Everything that `xai` refuses on purpose.

Each message is one sentence for a person: what is wrong, with the value, and what to do about it.
The terminal turns `InputError` into exit code 2 and every other `XaiError` into exit code 1; the pages show the text.
"""

from __future__ import annotations


class XaiError(Exception):
    """Base of all refusals."""


class InputError(XaiError, ValueError):
    """An argument, an image or a file that a person gave is unusable."""


class UnknownNameError(InputError):
    """A registry has no entry of that name."""


class ImageError(InputError):
    """An image cannot be read, or is larger than allowed."""


class LayerError(InputError):
    """A layer path does not exist in the network, or its output is not what the method needs."""


class NotApplicableError(InputError):
    """A method does not apply to a classifier; the message gives the reason."""


class WeightsError(InputError):
    """Weights are missing, damaged, or do not fit the architecture."""


class ModuleStateError(XaiError):
    """A call left hooks, flags or parameters of a shared network changed."""


class StorageError(XaiError):
    """A file could not be written: the disk is full, the folder is gone, or it may not be written to."""


class Cancelled(XaiError):  # noqa: N818 (not an error: the person asked for it)
    """The person cancelled; nothing is wrong."""
