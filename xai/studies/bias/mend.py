"""Mitigation on a person's own images: networks trained in every way on one part, audited side by side on the other.

The run folder is that of `xai.studies.bias.run`: a training with its audit a piece, so a kill loses one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from xai.data.call import open_dataset
from xai.data.spec import DataSet, Problem
from xai.data.split import SEEN, Split, given_split, stratified_split, unseen
from xai.errors import InputError
from xai.files import write_atomic
from xai.models.classifier import Classifier
from xai.models.store import load_model
from xai.params import check_bounds
from xai.public import public
from xai.runs.folder import RunFolder
from xai.settings import resolve_device
from xai.studies.bias.audit import audit
from xai.studies.bias.findings import PROTOCOL
from xai.studies.bias.own import Grouped, OwnRequest, check_audit, check_classes, grouped, subjects_of
from xai.studies.bias.run import piece_json, piece_path, save_network
from xai.studies.bias.subjects import Subjects
from xai.studies.bias.train import ARMS, Experiment, even_weights, same_everywhere
from xai.studies.together import together_of
from xai.training import Images, Streamed, build_network, fit, open_pictures
from xai.types import Run
from xai.words import counted

SHARE = 0.7
"""Share of the images of each class and group that networks are trained on; the others are what every audit asks.

Copies of one picture are on one side, and folders called train, validation and test are taken as they are.
"""


@dataclass(frozen=True)
class MendRequest:
    """What is trained again: `own.data` with its groups. seeds: trainings of each arm, counted from `own.seed`.

    own.model and own.weights: with "run:ID", or with weights other than "imagenet", a classifier that is there: it is
    audited first, and its architecture is trained. Else the name of what is trained, and the network that was trained
    as it is stands first.
    """

    own: OwnRequest
    seeds: int = field(default=3, metadata={"min": 1, "max": 1000})
    epochs: int = field(default=20, metadata={"min": 1, "max": 100_000})

    def __post_init__(self) -> None:
        check_bounds(self)

    @property
    def given(self) -> bool:
        """Whether there is a classifier already."""
        return self.own.model.startswith("run:") or self.own.weights != "imagenet"

    def plain(self) -> dict[str, Any]:
        """As the run folder keeps it."""
        own = {**asdict(self.own), "methods": list(self.own.methods)}
        return {**own, "mend": True, "seeds": self.seeds, "epochs": self.epochs}


@dataclass(frozen=True, eq=False)
class _Parts:
    """The images split: what is trained on, with the group of each, and what every audit asks."""

    data: DataSet
    train: Images | Streamed
    groups: tuple[tuple[int, str], ...]
    held: Grouped
    validation: Images | Streamed
    problems: tuple[Problem, ...]
    sides: str


@public
def mend_own(
    request: MendRequest, out: Path, resume: bool = False, device: str = "auto", run: Run | None = None
) -> dict[str, Any]:
    """Train in every arm and audit in the run folder `out`; gives the summary. `resume` goes on with what is missing.

    Raises `InputError` as `audit_own` does, and where no class has images of two groups, and `Cancelled`.
    """
    own, chosen = request.own, resolve_device(device)
    whole = open_dataset(own.data)
    data = whole if own.images is None else whole.sample(own.images, own.seed)
    data = data if request.given else data.used()
    given = load_model(own.model, own.weights, chosen) if request.given else None
    if given is not None:
        check_classes(data, given)
    else:
        data.check_labels()
    model = own.model if given is None else given.name
    config = {"kind": "audit-bias", **request.plain(), "data_fingerprint": data.fingerprint}
    folder = RunFolder.create(out, {**config, "fingerprint": given.fingerprint if given else ""}, resume)
    here = replace(run or Run(), device=chosen, seed=own.seed)
    with same_everywhere(model), folder.working(here, chosen) as work:
        parts = _split(
            request, data, model, work.part(0, 10, 100, "reading"), {item.key for item in whole.items}, folder
        )
        wanted = [Experiment(arm=arm, seed=own.seed + index, model=model, epochs=request.epochs)
                  for index in range(request.seeds) for arm in ARMS]  # fmt: skip
        pieces = []
        for index, each in enumerate(wanted):
            part = work.part(10 * len(wanted) + 85 * index, 85, 100 * len(wanted), _title(each))
            pieces.append(_piece(request, each, parts, folder, part))
        first = pieces[0]
        if given is not None:
            found = audit(given, _subjects(request, parts, given, work), own.methods, work.part(95, 5, 100, "audit"))
            first = {"audit": found.plain(), "curves": []}
        summary = _summary(request, parts, first, pieces)
        folder.write("summary.json", summary)
        work.report(100, 100, "done")
    return summary


def network_name(arm: str, seed: int) -> str:
    """The file name of a network that was trained on own images."""
    return f"own-{arm}-s{seed}"


def even_places(groups: Sequence[object], generator: torch.Generator) -> list[int]:
    """As many positions as there are images, the same number of every group, or one more: small groups repeat theirs.

    No image of a group is taken once more before each of it was.
    """
    own: dict[object, list[int]] = {}
    for place, group in enumerate(groups):
        own.setdefault(group, []).append(place)
    found: list[int] = []
    for index, places in enumerate(own.values()):
        wanted = len(groups) // len(own) + (index < len(groups) % len(own))
        order: list[int] = []
        while len(order) < wanted:
            order += [places[one] for one in torch.randperm(len(places), generator=generator).tolist()]
        found += order[:wanted]
    return found


def _two_sides(data: DataSet, given: Split) -> Split:
    """What the folders give: the train folder, and the others, on which every audit is, without copies of the former.

    Raises what `unseen` raises.
    """
    return Split(given.train, unseen(data, given.train, sorted((*given.validation, *given.test))))


def _split(request: MendRequest, data: DataSet, model: str, run: Run, known: set[str], folder: RunFolder) -> _Parts:
    own = request.own
    whole = grouped(own, data, run.part(0, 1, 4), known)
    found = whole.part([place for place, group in enumerate(whole.groups) if group])  # "": it cannot be read
    unread = [item.key for item, group in zip(whole.items, whole.groups, strict=True) if not group]
    pairs = [(item.label or 0, group) for item, group in zip(found.items, found.groups, strict=True)]
    kinds = sorted(set(pairs))
    if len({label for label, _ in kinds}) == len(kinds):
        raise InputError(
            f"no class of {data.name} has images of two groups, so that none can be balanced; add images of "
            "the groups that are missing."
        )
    names = tuple(f"{data.classes[label]}, {group}" for label, group in kinds)
    items = tuple(replace(item, label=kinds.index(pair)) for item, pair in zip(found.items, pairs, strict=True))
    pairs_of = replace(data, items=items, classes=names)
    begun = any((folder.path / "pieces").glob("*.json"))
    together = together_of(folder, pairs_of, run.part(1, 1, 4), begun=begun)
    marked = together.mark(pairs_of)
    given = given_split(marked)
    split = stratified_split(marked, SHARE, own.seed) if given is None else _two_sides(marked, given)
    sight = load_model(model, Experiment(model=model).weights, "cpu")
    held = found.part(split.validation)
    check_audit(own, held, sight)
    opened = [
        open_pictures([found.items[place] for place in places], sight, run.part(2 + index, 1, 4), own.view)
        for index, places in enumerate((split.train, split.validation))
    ]
    groups = tuple(pairs[split.train[place]] for place in sorted(opened[0].where))
    copies = set(range(len(found.items))) - {*split.train, *split.validation}
    problems = (
        *(Problem(key, "cannot be read") for key in unread),
        *(Problem(found.items[place].key, SEEN) for place in sorted(copies)),
        *opened[0].problems,
    )
    sides = "copies of one picture on one side"
    if given is not None:
        sides = "the folders as they are given"
        if copies:
            show = "shows" if len(copies) == 1 else "show"
            sides += f", without {len(copies)} that {show} the same picture as a training image"
    if count := len(together.copies):
        sides += f" ({counted(count, 'picture is', 'pictures are')} there more than once)"
    return _Parts(data, opened[0].pictures, groups, held, opened[1].pictures, problems, sides)


def _piece(request: MendRequest, each: Experiment, parts: _Parts, folder: RunFolder, run: Run) -> dict[str, Any]:
    """One training and its audit, read again where it is there."""
    name = network_name(each.arm, each.seed)
    if not piece_path(folder.path, name).is_file():
        recipe = each.recipe()
        network = build_network(each.model, each.weights, parts.data.classes, recipe, run.device)
        chosen = even_places(parts.groups, replace(run, seed=each.seed).generator("balanced"))
        history = fit(
            network,
            parts.train.subset(chosen) if each.arm == "balanced" else parts.train,
            parts.validation,
            recipe,
            replace(run.part(0, 80, 100, "training"), seed=each.seed),
            folder.path / "checkpoints" / f"{name}.pt",
            lambda epoch: folder.metric({"network": name, **asdict(epoch)}),
            even_weights(parts.groups) if each.arm == "weights" else None,
        )
        classifier = network.classifier(f"run:{name}")
        subjects = _subjects(request, parts, classifier, run)
        found = audit(classifier, subjects, request.own.methods, run.part(80, 20, 100, "audit"))
        save_network(folder.path, name, classifier)
        told = {"arm": each.arm, "seed": each.seed, "model": each.model, "rho": None, "epochs": each.epochs}
        piece = {
            "experiment": {**told, "name": name},
            "curves": [asdict(epoch) for epoch in history.epochs],
            "audit": found.plain(),
            "left_out": [asdict(problem) for problem in subjects.problems],
        }
        write_atomic(piece_path(folder.path, name), piece_json(piece))
    read: dict[str, Any] = json.loads(piece_path(folder.path, name).read_text(encoding="utf-8"))
    return read


def _subjects(request: MendRequest, parts: _Parts, classifier: Classifier, run: Run) -> Subjects:
    quiet = run.quiet()
    class_map = check_classes(parts.data, classifier)
    return subjects_of(request.own, parts.held, classifier, class_map, quiet, parts.data.synthetic)


def _summary(
    request: MendRequest, parts: _Parts, first: dict[str, Any], pieces: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    own, data = request.own, parts.data
    seen = ", some of which the given network may have learned from" if request.given else ""
    lost = [*map(asdict, (*data.problems, *parts.problems)), *pieces[0]["left_out"]]
    return {
        "kind": "audit-bias",
        "protocol": PROTOCOL,
        "data": f"{data.name}: {data.sentence}; {parts.held.told}; networks trained on {len(parts.groups)} of the "
        f"images, every audit on the other {len(parts.held.items)}, {parts.sides}{seen}",
        "request": request.plain(),
        "base": {
            "experiment": None,
            "network": "" if request.given else network_name("biased", own.seed),
            "curves": first["curves"],
            "audit": first["audit"],
        },
        "left_out": lost,
        "sweep": [],
        "mend": [{"experiment": each["experiment"], "audit": {**each["audit"], "rows": []}} for each in pieces],
        "detector": None,
    }


def _title(each: Experiment) -> str:
    return f"{ARMS[each.arm]}, seed {each.seed}"
