"""What belongs together, kept in a run's folder, so that a run that goes on has the split that it began with."""

from __future__ import annotations

from xai.data.spec import DataSet
from xai.data.together import Together, find_together
from xai.runs.folder import RunFolder
from xai.types import Run

FILE = "together.json"
"""What of a run names the images that stay on one side of its split; earlier runs have none, and divided them."""


def together_of(
    folder: RunFolder, data: DataSet, run: Run, groups: str = "", begun: bool = False, writes: bool = True
) -> Together:
    """What belongs together in a run: as it was found when it began, else as it is found now.

    begun: whether it was under way already; one of before `FILE` has nothing together. writes: whether this process
    keeps it.
    """
    if (folder.path / FILE).is_file():
        return Together.of(folder.read(FILE))
    found = Together() if begun else find_together(data, groups, run)
    if writes:
        folder.write(FILE, found.plain())
    return found
