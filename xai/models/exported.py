"""Trained networks as files: `model.safetensors` and `model.json`, in a run's folder, or exported as one zip.

`model.json` says what the tensors are: architecture, head, labels, preprocessing, and the card of the training. Both
are checked when they are read: the tensors against the SHA-256 in the card, their names and shapes against the network.
"""

from __future__ import annotations

import io
import json
import math
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision.transforms import InterpolationMode

from xai.errors import InputError, LayerError, WeightsError
from xai.files import parse_json, sha256, write_atomic
from xai.models._torchvision import any_classifier
from xai.models.build import headed_network
from xai.models.classifier import Classifier, Preset
from xai.models.heads import HEADS
from xai.models.layers import find_layer
from xai.models.spec import MODELS, ModelSpec
from xai.models.weights import check_header
from xai.outputs import Output
from xai.public import public
from xai.settings import runs_dir
from xai.words import counted

CARD, TENSORS, LABELS, README = "model.json", "model.safetensors", "labels.txt", "card.md"
FORMAT, VERSION = "olhar-classifier", 1

PLACE = "artifacts"
"""The folder of a run that holds its network."""

COMING = "networks"
"""The folder of a run whose networks wait in it until all of them are trained."""

MAX_BYTES = 4 * 2**30
"""Largest file of tensors that is read out of a zip."""

MAX_CARD_BYTES = 16 * 2**20
"""Largest card that is read; that of a network of 20,000 classes has 1 MB."""

MAX_RATIO = 4
"""How many times as large as its zip a file in it may be; weights hardly shrink when they are packed."""

MAX_SIDE = 8192
"""Longest side in pixels to which a network may have its images resized or cut."""


@dataclass(frozen=True)
class Trained:
    """A run's network in a list. id: as `run:ID` takes it. accuracy: on its validation images, None if not measured.

    synthetic: trained on generated images. random: what it began with was untrained.
    """

    id: str
    title: str
    architecture: str
    labels: tuple[str, ...]
    synthetic: bool
    random: bool
    accuracy: float | None


def write_network(folder: Path, classifier: Classifier, head: str, card: Mapping[str, Any]) -> None:
    """Put a trained classifier into `folder`, the tensors first, so that a card is there only beside whole tensors.

    head: of `xai.models.heads.HEADS`. card: JSON-able facts about the training; "base" in it names the weights that it
    began with, "data" the data set, "synthetic" whether that was generated, "view" how images were cut.
    """
    from safetensors.torch import save

    state = {
        name: value.detach().cpu().contiguous().clone() for name, value in classifier.module.net.state_dict().items()
    }
    data = save(state)
    preset = classifier.preset
    told = {
        "format": FORMAT,
        "version": VERSION,
        "architecture": classifier.name,
        "head": head,
        "labels": list(classifier.labels),
        "output": str(classifier.output),
        "preprocessing": {**asdict(preset), "interpolation": preset.interpolation.value},
        "default_layer": classifier.default_layer,
        "fingerprint": classifier.fingerprint,
        "sha256": sha256(data),
        "parameters": sum(each.numel() for each in classifier.module.parameters()),
        "card": dict(card),
    }
    write_atomic(folder / TENSORS, data)
    write_atomic(folder / CARD, (json.dumps(told, indent=1, allow_nan=False) + "\n").encode())


def bring_networks(run: Path, *others: str) -> None:
    """Put the networks that wait in `COMING` of the run folder `run` in their place, those of an earlier end give way.

    So all that a run shows is of one end, also while it goes on or the disk is full. others: names of further files
    that wait there, and then go into the run folder.
    """
    coming = run / COMING
    for file in sorted(coming.rglob("model.*"), reverse=True):  # tensors before cards
        place = run / PLACE / file.relative_to(coming)
        place.parent.mkdir(parents=True, exist_ok=True)
        file.replace(place)
    for name in others:
        (coming / name).replace(run / name)
    shutil.rmtree(coming)


@public
def export_network(place: str, out: Path) -> Path:
    """Pack the network of the run `place` into the zip `out`: tensors, model.json, labels.txt and a card to read.

    Raises `InputError` where `out` is no .zip or is there already, and what `find_network` raises.
    """
    find_network(place)
    if out.suffix.lower() != ".zip":
        raise InputError(f"{out} is no .zip; give a file name that ends in .zip.")
    if out.exists():
        raise InputError(f"{out} exists already; give another name.")
    write_atomic(out, network_zip(place))
    return out


def network_zip(place: str) -> bytes:
    """The zip that `export_network` writes."""
    folder = find_network(place)
    card = read_card(folder)
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name in (TENSORS, CARD):
            archive.writestr(name, read_file(folder, name))
        archive.writestr(LABELS, "".join(f"{label}\n" for label in card["labels"]))
        archive.writestr(README, card_text(card))
    return sink.getvalue()


def find_network(place: str) -> Path:
    """Where the network of `run:PLACE` lies: a folder with model.json, or an exported zip.

    place: a run's name in `runs_dir()` ("NAME/fold-2" for a fold's network), or a path to a run, to such a folder or to
    a zip. Raises `InputError` where there is none.
    """
    if not place:
        raise InputError("run: names no run; give run:ID, as `python -m xai runs` lists them.")
    there = None
    for base in (runs_dir() / place, Path(place).expanduser()):
        for folder in (base / PLACE, base, base.parent / PLACE / base.name):
            if (folder / CARD).is_file():
                return folder
        if base.is_file() and base.suffix.lower() == ".zip":
            return base
        there = there or (base if base.exists() else None)
    if there is not None:
        raise InputError(f"{there} holds no trained network yet; wait until the training is done, or resume it.")
    raise InputError(f"run {place!r} does not exist in {runs_dir()}; `python -m xai runs` lists them.")


def network_name(path: Path) -> str:
    """How a network at `path` is called in `run:NAME`: its run's name in `runs_dir()`, else the run's or file's own."""
    kept = [part for part in path.resolve().parts if part != PLACE]
    home = runs_dir().resolve().parts
    if tuple(kept[: len(home)]) == home and len(kept) > len(home):
        return "/".join(kept[len(home) :])
    return "/".join(kept[-2:]) if path.is_dir() and path.resolve().parent.name == PLACE else kept[-1]


def read_card(path: Path) -> dict[str, Any]:
    """model.json of the network at `path`; raises `WeightsError` where it is damaged or of another format."""
    data = read_file(path, CARD)
    try:
        card: dict[str, Any] = parse_json(data)
        if card["format"] != FORMAT or card["version"] != VERSION:
            raise WeightsError(f"{path} holds a network of another format; export it again with this version.")
        labels = card["labels"]
        fits = card["head"] in HEADS and isinstance(labels, list) and all(isinstance(each, str) for each in labels)
        if not fits or len(set(labels)) < max(2, len(labels)) or not isinstance(card["card"], dict):
            raise ValueError("head or labels")
        output_of(card)
        _preset(card)
        if not all(isinstance(card[each], str) for each in ("architecture", "sha256", "default_layer", "fingerprint")):
            raise ValueError("a name is no text")
        int(card["parameters"])
    except WeightsError:
        raise
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise WeightsError(f"{path}: {CARD} is damaged ({error}); train or export it again.") from error
    return card


def read_network(path: Path) -> tuple[ModelSpec, nn.Module, dict[str, Any]]:
    """(spec with the network's own preset, title and notes; the network; its card), everything checked.

    Raises `WeightsError` for what is missing, damaged, not finite or does not fit.
    """
    from safetensors.torch import load

    card = read_card(path)
    name = str(card["architecture"])
    spec = MODELS.get(name) if name in MODELS else any_classifier(name)
    data = read_file(path, TENSORS)
    if sha256(data) != card["sha256"]:
        raise WeightsError(f"{path}: {TENSORS} is damaged (its SHA-256 is not the card's); train or export it again.")
    check_header(data, f"{path}: {TENSORS}")
    try:
        state: Mapping[str, Tensor] = load(data)
    except Exception as error:  # a damaged file raises whatever its parser met first
        raise WeightsError(f"{path}: {TENSORS} cannot be read ({type(error).__name__}).") from error
    net = headed_network(spec, card["head"], len(card["labels"]), state, str(path))
    try:
        find_layer(net, card["default_layer"])
    except LayerError as error:
        raise WeightsError(f"{path}: {CARD} is damaged ({error}); train or export it again.") from error
    spec = replace(
        spec,
        title=f"{spec.title} ({_called(network_name(path), card)})",
        preset=_preset(card),
        default_layer=str(card["default_layer"]),
        notes=(*spec.notes, *notes(card)),
    )
    return spec, net, card


def notes(card: Mapping[str, Any]) -> tuple[str, ...]:
    """What must be known wherever the network is used: data, marks, view."""
    told = card["card"]
    found = []
    if told.get("data"):
        found.append(f"trained on {told['data']}" + (", synthetic images" if told.get("synthetic") else ""))
    if str(told.get("base", "")).startswith("random"):
        found.append(f"began with random weights ({told['base']})")
    if told.get("view") == "whole":
        found.append("trained on whole pictures: look with view whole")
    return tuple(found)


def output_of(card: Mapping[str, Any]) -> Output:
    """What the network's logits mean; a card of before this was written says softmax. Raises `InputError`."""
    return Output.of(card.get("output", Output.SOFTMAX))


def list_networks() -> tuple[Trained, ...]:
    """The networks of the runs in `runs_dir()`, the newest run first, of one with folds each; without damaged ones."""
    runs = sorted(runs_dir().glob(f"[!.]*/{PLACE}/{CARD}"), key=lambda each: (-each.stat().st_mtime, str(each)))
    every = [each for path in runs for each in (path, *_other_folds(path))]
    found = []
    for path in every:
        try:
            card = read_card(path.parent)
        except WeightsError:
            continue
        told, kept = card["card"], path.parent.relative_to(runs_dir()).parts
        run = "/".join(part for part in kept if part != PLACE)
        name = card["architecture"]
        title = MODELS.get(name).title if name in MODELS else name
        random = str(told.get("base", "")).startswith("random")
        accuracy = told.get("accuracy")
        found.append(
            Trained(
                run,
                f"{title} ({_called(run, card)})",
                name,
                tuple(card["labels"]),
                bool(told.get("synthetic")),
                random,
                float(accuracy) if isinstance(accuracy, int | float) else None,
            )
        )
    return tuple(found)


def _other_folds(path: Path) -> list[Path]:
    """The cards of the networks of fold 2, 3, ... beside that of fold 1, in order."""
    return sorted(path.parent.glob(f"fold-*/{CARD}"), key=lambda each: (len(each.parent.name), each.parent.name))


def _called(name: str, card: Mapping[str, Any]) -> str:
    """What the network of `run:NAME` is called for people: its run or file, and which fold's it is."""
    fold = card["card"].get("fold")
    return f"run {name.partition('/fold-')[0]}, fold {fold}" if fold else f"run {name}"


def card_text(card: Mapping[str, Any]) -> str:
    """The card as a person reads it."""
    size = card["preprocessing"]
    lines = [
        f"# {card['architecture']}, head {card['head']}, {counted(len(card['labels']), 'class', 'classes')}",
        "",
        f"Classes, in order: {', '.join(card['labels'])}.",
        f"Input: RGB, short side to {size['resize']}, centre {size['crop']} x {size['crop']}, {size['interpolation']}; "
        f"then (x - {size['mean']}) / {size['std']} for x in [0, 1].",
        *(f"Note: {note}." for note in notes(card)),
        "",
        f"Open it in Olhar by `--model run:FILE.zip` or `xai.load_model('run:FILE.zip')`. {TENSORS} is the state dict.",
        "",
        *(f"- {name}: {json.dumps(value)}" for name, value in card["card"].items()),
        f"- parameters: {int(card['parameters']):,}",
        f"- fingerprint: {card['fingerprint']}",
    ]
    return "\n".join(lines) + "\n"


def read_file(path: Path, name: str) -> bytes:
    """One file of the network at `path`, a folder or a zip; raises `WeightsError` where it is missing or too large."""
    most = MAX_BYTES if name == TENSORS else MAX_CARD_BYTES
    try:
        if path.is_dir():
            _check_size(path, name, (path / name).stat().st_size, most)
            return (path / name).read_bytes()
        with zipfile.ZipFile(path) as archive:
            size = archive.getinfo(name).file_size
            _check_size(path, name, size, most)
            if size > MAX_RATIO * path.stat().st_size:
                raise WeightsError(f"{path}: {name} unpacks to over {MAX_RATIO} times the zip; it is not opened.")
            return archive.read(name)
    except (OSError, KeyError, zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
        raise WeightsError(f"{path} has no {name} that can be read; train or export it again.") from error


def _check_size(path: Path, name: str, size: int, most: int) -> None:
    if size > most:
        raise WeightsError(f"{path}: {name} is larger than {most // 2**20:,} MB; it is not opened.")


def _preset(card: Mapping[str, Any]) -> Preset:
    kept = card["preprocessing"]
    mean, std = (tuple(float(value) for value in kept[name]) for name in ("mean", "std"))
    sides = int(kept["resize"]), int(kept["crop"])
    fits = len(mean) == len(std) == 3 and all(map(math.isfinite, (*mean, *std))) and min(std) > 0
    if not fits or not 1 <= min(sides) <= max(sides) <= MAX_SIDE:
        raise ValueError("preprocessing")
    return Preset(
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        resize=sides[0],
        crop=sides[1],
        interpolation=InterpolationMode(kept["interpolation"]),
    )


def stamp_file(path: Path) -> Path:
    """The file whose change means another network: the card of a folder, or the zip."""
    return path / CARD if path.is_dir() else path
