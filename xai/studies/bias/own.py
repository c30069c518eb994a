"""The bias audit of a person's own classifier on their own images, in a run folder."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from xai.data.call import open_dataset
from xai.data.drawn.pet_factors import CUES, VALUES
from xai.data.pets import pet_of
from xai.data.spec import DataSet, Item, Problem
from xai.errors import InputError
from xai.models.classifier import VIEWS, Classifier
from xai.models.store import load_model
from xai.public import public
from xai.runs.folder import RunFolder
from xai.settings import resolve_device
from xai.studies.bias.audit import audit, check_methods
from xai.studies.bias.findings import PROTOCOL
from xai.studies.bias.groups import FOLDERS, groups_of, with_masks
from xai.studies.bias.subjects import FACTORS, Subjects, check_memory, of_items, of_pets
from xai.types import Run


@dataclass(frozen=True)
class OwnRequest:
    """What is audited. groups: "folders", "brightness", or the path of a CSV. masks: a folder or zip, "" for none.

    cue: what recolouring inside the masks changes. images: a seeded sample of so many, None for all.
    """

    data: str
    model: str
    weights: str = "imagenet"
    groups: str = FOLDERS
    masks: str = ""
    cue: str = "brightness"
    methods: tuple[str, ...] = ("gradcam",)
    images: int | None = None
    view: str = "crop"
    seed: int = 0

    def __post_init__(self) -> None:
        check_methods(self.methods)
        if self.view not in VIEWS:
            raise InputError(f"view {self.view!r} is not known; use {' or '.join(VIEWS)}.")

    def config(self, data: DataSet, classifier: Classifier) -> dict[str, Any]:
        """What the run folder keeps, and what resuming compares."""
        return {
            "kind": "audit-bias",
            **asdict(self),
            "methods": list(self.methods),
            "fingerprint": classifier.fingerprint,
            "data_fingerprint": data.fingerprint,
        }


@public
def audit_own(
    request: OwnRequest, out: Path, resume: bool = False, device: str = "auto", run: Run | None = None
) -> dict[str, Any]:
    """Audit in the run folder `out`; gives the summary. One piece, so a stopped audit begins again.

    Raises `InputError` where the data has no labels, no groups, or classes that the classifier lacks, and `Cancelled`.
    """
    chosen = resolve_device(device)
    classifier = load_model(request.model, request.weights, chosen)
    whole = open_dataset(request.data)
    data = whole if request.images is None else whole.sample(request.images, request.seed)
    check_classes(data, classifier)
    folder = RunFolder.create(out, request.config(data, classifier), resume)
    with folder.working(replace(run or Run(), device=chosen, seed=request.seed), chosen) as own:
        known = {item.key for item in whole.items}
        subjects, told = own_subjects(request, data, classifier, own.part(0, 50, 100, "reading"), known)
        found = audit(classifier, subjects, request.methods, own.part(50, 50, 100, "audit"))
        summary: dict[str, Any] = {
            "kind": "audit-bias",
            "protocol": PROTOCOL,
            "data": f"{data.name}: {data.sentence}; {told}",
            "request": asdict(request),
            "base": {"experiment": None, "curves": [], "audit": found.plain()},
            "left_out": [asdict(problem) for problem in (*data.problems, *subjects.problems)],
            "sweep": [],
            "mend": [],
            "detector": None,
        }
        folder.write("summary.json", summary)
        own.report(100, 100, "done")
    return summary


def check_classes(data: DataSet, classifier: Classifier) -> tuple[int, ...]:
    """The classifier's class of every class of the data; raises `InputError` where there are none, or they differ."""
    if not data.classes:
        data.check_labels(needed=1)
    found = data.class_map(classifier.labels)
    if found is None:
        raise InputError(
            f"the classes of {data.name} ({', '.join(data.classes[:4])}) are not those of {classifier.title} "
            f"({', '.join(classifier.labels[:4])}); train one on this data: python -m xai train."
        )
    return found


def own_subjects(
    request: OwnRequest, data: DataSet, classifier: Classifier, run: Run, known: Collection[str] = ()
) -> tuple[Subjects, str]:
    """The images as subjects, and how their groups were made; see `grouped` and `subjects_of`."""
    class_map = check_classes(data, classifier)
    found = grouped(request, data, run.part(0, 1, 3), known)
    check_audit(request, found, classifier)
    return subjects_of(request, found, classifier, class_map, run.part(1, 2, 3), data.synthetic), found.told


@dataclass(frozen=True, eq=False)
class Grouped:
    """Labelled images with the group of each. told: how groups and masks were found. drawn: by the generator, whose
    counterfactuals they have. misfits: masks that fit no image."""

    items: tuple[Item, ...]
    groups: tuple[str, ...]
    told: str
    drawn: bool = False
    misfits: tuple[Problem, ...] = ()

    def part(self, places: Sequence[int]) -> Grouped:
        """The images at `places`, in that order."""
        items = tuple(self.items[place] for place in places)
        return replace(self, items=items, groups=tuple(self.groups[place] for place in places))


def grouped(request: OwnRequest, data: DataSet, run: Run, known: Collection[str] = ()) -> Grouped:
    """The labelled images of `data` with groups and masks; known: keys that a table may name beside the data's."""
    items: Sequence[Item] = [item for item in data.items if item.label is not None]
    if request.groups == FOLDERS and not request.masks and all(pet_of(item) is not None for item in items):
        values = tuple(item.key.split("/")[1] for item in items)
        return Grouped(tuple(items), values, "groups known to the generator", drawn=True)
    masked = ""
    misfits: tuple[Problem, ...] = ()
    if request.masks:
        items, masked, misfits = with_masks(items, request.masks, known)
    groups, told = groups_of(items, request.groups, run, known)
    return Grouped(tuple(items), groups, "; ".join(filter(None, (told, masked))), misfits=misfits)


def check_audit(request: OwnRequest, found: Grouped, classifier: Classifier) -> None:
    """Raise before images are read or a network is trained what the audit of `found` would raise.

    `NotApplicableError` for a method that does not apply where explanations are measured, `InputError` where the images
    do not fit the memory.
    """
    if request.masks or found.drawn:
        check_methods(request.methods, classifier)
    masked = sum(item.open_mask is not None for item in found.items)
    check_memory(len(found.items), len(FACTORS) * len(found.items) if found.drawn else masked, classifier)


def subjects_of(
    request: OwnRequest,
    found: Grouped,
    classifier: Classifier,
    class_map: Sequence[int],
    run: Run,
    synthetic: bool,
) -> Subjects:
    """The images as `classifier` sees them; class_map: its class of each class of the data."""
    if found.drawn:
        return drawn_subjects(found.items, classifier, run, request.view)
    labels = [class_map[item.label] for item in found.items if item.label is not None]
    own = of_items(found.items, labels, found.groups, request.cue, classifier, run, request.view, synthetic)
    return replace(own, problems=(*found.misfits, *own.problems))


def drawn_subjects(items: Sequence[Item], classifier: Classifier, run: Run, view: str = "crop") -> Subjects:
    """Drawn pets of a data set, with the cue that their folders are made of."""
    pets = [pet for item in items if (pet := pet_of(item)) is not None]
    values = {item.key.split("/")[1] for item in items}
    cue = next((cue for cue in CUES if values <= set(VALUES[cue])), CUES[0])
    found = of_pets(pets, cue, classifier, items[0].open().width, run, view=view)
    return replace(found, keys=tuple(item.key for item in items))
