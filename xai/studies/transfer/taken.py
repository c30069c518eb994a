"""An exported network as a run of this place, so that pages and commands offer it like one that was trained here."""

from __future__ import annotations

import shutil
from pathlib import Path

from xai.errors import StorageError, WeightsError
from xai.files import temporary_folder, write_atomic
from xai.models.exported import CARD, PLACE, TENSORS, read_file, read_network
from xai.runs.control import TITLE_LENGTH, new_run
from xai.runs.files import Status
from xai.runs.folder import RunFolder


def take_network(data: bytes, name: str) -> Path:
    """Put the exported zip `data`, a file called `name`, into a new run: everywhere it is then `run:ID`.

    Everything in it is checked first. Raises `WeightsError` for what is no such zip or damaged, `StorageError` where
    there is no room.
    """
    with temporary_folder() as folder:
        file = folder / "network.zip"
        write_atomic(file, data)
        try:
            _, _, card = read_network(file)
        except WeightsError as error:
            raise WeightsError(str(error).replace(str(file), name)) from error
        path = new_run("network", Path(name).stem[:TITLE_LENGTH].strip())
        run = RunFolder(path)
        try:
            for each in (TENSORS, CARD):
                run.write_bytes(f"{PLACE}/{each}", read_file(file, each))
            kept = {each: card[each] for each in ("architecture", "head", "labels", "sha256")}  # what was checked
            run.write("config.json", {"kind": "network", "file": name, **kept})
            run.set_status(Status("done"))
        except StorageError:
            shutil.rmtree(path, ignore_errors=True)
            raise
    return path
