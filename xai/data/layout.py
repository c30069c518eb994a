"""From paths to labels: class folders, ImageNet-V2's class indices, WordNet ids, or none."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath

from xai.data.spec import SPLITS, Problem, parts_of
from xai.errors import InputError
from xai.images.decode import SUPPORTED_SUFFIXES
from xai.settings import ASSETS
from xai.words import counted

LAYOUTS = ("class folders", "class index", "WordNet id", "unlabelled")
"""Class folders: one name a folder, in sorted order. Class index: folders "0", "1", ... are the labels themselves, as
in ImageNet-V2. WordNet id: ImageNet's "n01440764", ...; a class's index is its place among the 1,000 sorted ids."""

BESIDE = ("images", "image", "imgs"), ("labels", "label", "masks", "mask", "annotations", "annotation")
"""A folder of images, and the folders beside it that hold what is known of them, which may be images too."""

RUBBISH = frozenset({"__macosx", ".ds_store", "thumbs.db", "desktop.ini"})
TABLES = ("classes.txt", "LOC_synset_mapping.txt", "LOC_val_solution.csv")
"""Files beside the images that are read: class order, and the labels of Kaggle's flat validation folder."""

HIGHEST_INDEX = 999

WNID = re.compile(r"n\d{8}")

ReadTable = Callable[[str], str | None]


@dataclass(frozen=True)
class Layout:
    """Which paths are images, with their labels and parts; `paths`, `labels` and `parts` go together.

    parts: "train", "validation" or "test" where folders of these names divide the images, else "".
    """

    name: str
    paths: tuple[str, ...]
    labels: tuple[int | None, ...]
    classes: tuple[str, ...]
    problems: tuple[Problem, ...]
    parts: tuple[str, ...]


@cache
def imagenet_wnids() -> tuple[str, ...]:
    """The 1,000 WordNet ids of ImageNet-1k in class order, which is their sorted order."""
    return tuple((ASSETS / "imagenet_wnids.txt").read_text(encoding="ascii").split())


def hidden(path: PurePosixPath) -> bool:
    """True for what systems leave behind (__MACOSX, .DS_Store, ...) and for hidden files and folders."""
    return any(map(_hides, path.parts))


def _hides(part: str) -> bool:
    return (part.startswith(".") and part not in (".", "..")) or part.casefold() in RUBBISH


def _left_behind(paths: Sequence[PurePosixPath]) -> list[Problem]:
    """Hidden files by name or by their hidden folder, and in one line what systems leave behind."""
    found: Counter[str] = Counter()
    system: Counter[str] = Counter()
    for path in paths:
        at = next(place for place, part in enumerate(path.parts) if _hides(part))
        name = path.parts[at]
        if name.casefold() in RUBBISH or name.startswith("._"):
            system["._*" if name.startswith("._") else name] += 1
        else:
            found["/".join(path.parts[: at + 1]) + "/" * (at + 1 < len(path.parts))] += 1
    told = [Problem(_counted(name, count), "hidden: its name begins with a dot") for name, count in found.items()]
    if system:
        names = ", ".join(_counted(name, count) for name, count in sorted(system.items()))
        told.append(Problem(names, "left behind by the operating system; no image"))
    return told


def _counted(name: str, count: int) -> str:
    return f"{name} ({count} files)" if count > 1 else name


def read_layout(files: Sequence[str], read_table: ReadTable, layout: str = "auto") -> Layout:
    """Labels for `files`, paths with forward slashes inside the data set; `read_table(name)` reads one of `TABLES`.

    One folder around everything is passed through, and one that holds its class folders twice. A single folder of
    images whose name is no index or WordNet id holds unlabelled images. Folders called train, validation and test (see
    `parts_of`) above the class folders, or in each of them, become the images' parts. layout: "auto", or one of
    `LAYOUTS` to insist on it.

    Raises `InputError` where nothing is an image and where labels cannot be read.
    """
    if layout not in ("auto", *LAYOUTS):
        raise InputError(f"layout {layout!r} is not known; use auto, {', '.join(LAYOUTS)}.")
    images: list[PurePosixPath] = []
    problems: list[Problem] = []
    behind: list[PurePosixPath] = []
    for name in sorted(files):
        path = PurePosixPath(name)
        if hidden(path):
            behind.append(path)
        elif path.name in TABLES:
            continue
        elif path.suffix.lower() in SUPPORTED_SUFFIXES:
            images.append(path)
        else:
            problems.append(Problem(name, "not an image file"))
    problems += _left_behind(behind)
    if not images:
        raise InputError(
            f"there is no image in it ({counted(len(files), 'file')}); give PNG, JPEG, WebP, BMP, TIFF or GIF files."
        )
    images, beside = _of_images(images, _wrapping(images))
    problems += beside
    depth = _wrapping(images)
    divided = _divided(images, depth)
    if divided:
        images, beside = _parted(images, depth, divided)
        problems += beside
        parts = tuple(divided[path.parts[depth]] for path in images)
        depth += 1 + all(path.parts[depth + 1 : -1][:1] == path.parts[depth : depth + 1] for path in images)
    else:
        images, beside, depth = _packed_twice(images, depth)
        images, copies = _without_copies(images, depth)
        problems += [*beside, *copies]
        parts = _inside_classes(images, depth)
    tops = [path.parts[depth] if len(path.parts) > depth + 1 else "" for path in images]
    folders = sorted({top for top in tops if top})
    found = _named(folders) if layout == "auto" else layout
    if found == "unlabelled":
        labels = _solutions(images, read_table) if layout == "auto" else None
        paths = tuple(map(str, images))
        if labels is None:
            return Layout("unlabelled", paths, (None,) * len(paths), (), tuple(problems), parts)
        return Layout("WordNet id", paths, labels, imagenet_wnids(), tuple(problems), parts)
    if not folders:
        raise InputError(f"there is no folder in it to read {found!r} from; use layout unlabelled.")
    problems += [Problem(str(path), "not in a class folder") for path, top in zip(images, tops, strict=True) if not top]
    index, classes = _indexed(folders, found, read_table)
    kept = [each for each in zip(images, tops, parts, strict=True) if each[1]]
    return Layout(
        found,
        tuple(str(path) for path, _, _ in kept),
        tuple(index[top] for _, top, _ in kept),
        classes,
        tuple(problems),
        tuple(part for _, _, part in kept),
    )


def _of_images(images: list[PurePosixPath], depth: int) -> tuple[list[PurePosixPath], list[Problem]]:
    """The images without those of folders such as masks or labels beside the folder images; see `BESIDE`."""
    tops = {path.parts[depth] if len(path.parts) > depth + 1 else "" for path in images}
    own, others = ({top for top in tops if top.casefold() in names} for names in BESIDE)
    if len(own) != 1 or not others or tops != own | others:
        return images, []
    kept = [path for path in images if path.parts[depth] in own]
    reason = f"beside the folder {next(iter(own))}"
    return kept, [Problem(str(path), reason) for path in images if path.parts[depth] not in own]


def _divided(images: Sequence[PurePosixPath], depth: int) -> Mapping[str, str]:
    """The part of each folder at this level that divides the images, sorted by name; {} where they are no such folders.

    At least two parts, and nothing beside them unless every one of them holds folders, as classes are: "train" beside
    "bus" and "car" is a class. So are "night_train" and "night_test" where they hold images and no folders.
    """
    inner: dict[str, set[str]] = {}
    for path in images:
        top, *rest = path.parts[depth:-1] or ("",)
        inner.setdefault(top, set()).update(rest[:1])
    named = parts_of(inner)
    if len(set(named.values())) < 2:
        return {}
    hold = all(inner[top] for top in named)
    plain = len(named) == len(inner) and all(top.casefold() in SPLITS for top in named)
    return dict(sorted(named.items())) if plain or hold else {}


def _inside_classes(images: Sequence[PurePosixPath], depth: int) -> tuple[str, ...]:
    """The part of each image where every class folder at this level holds nothing but folders that divide it, else ""s.

    As in cat/train, cat/test, dog/train, dog/test.
    """
    inner = {path.parts[depth + 1] if len(path.parts) > depth + 2 else "" for path in images}
    named = parts_of(inner)
    if len(set(named.values())) < 2 or len(named) < len(inner):
        return ("",) * len(images)
    return tuple(named[path.parts[depth + 1]] for path in images)


def _parted(
    images: Sequence[PurePosixPath], depth: int, divided: Mapping[str, str]
) -> tuple[list[PurePosixPath], list[Problem]]:
    """The images inside the folders that divide them, and those beside these folders."""
    inside = [path for path in images if path.parts[depth] in divided and len(path.parts) > depth + 1]
    kept = set(inside)
    reason = f"beside the folders {', '.join(divided)}"
    return inside, [Problem(str(path), reason) for path in images if path not in kept]


def _packed_twice(images: list[PurePosixPath], depth: int) -> tuple[list[PurePosixPath], list[Problem], int]:
    """(images of the one folder that is all of the data, what lies beside it, the level of its class folders).

    Such a folder holds class folders and, under its own name, two or more of them once more, as Kaggle's archive of the
    Simpsons has it beside its test images.
    """
    inner: dict[str, set[str]] = {}
    again: dict[str, set[str]] = {}
    for path in images:
        top, *rest = path.parts[depth:-1] or ("",)
        inner.setdefault(top, set()).update(rest[:1])
        if rest[:1] == [top]:
            again.setdefault(top, set()).update(rest[1:2])
    found = [top for top, names in again.items() if len(names) > 1 and names <= inner[top] - {top}]
    if len(found) != 1:
        return images, [], depth
    within = [path for path in images if path.parts[depth] == found[0]]
    reason = f"beside the class folders in {found[0]}"
    return within, [Problem(str(path), reason) for path in images if path.parts[depth] != found[0]], depth + 1


def _without_copies(images: list[PurePosixPath], depth: int) -> tuple[list[PurePosixPath], list[Problem]]:
    """The images without a folder that holds the class folders beside it once more, as Kaggle's brain MRI zip has it.

    A class folder is such a copy if it has two folders or more, and nothing but folders named like those beside it.
    """
    inner: dict[str, set[str]] = {}
    for path in images:
        top, *rest = path.parts[depth:-1] or ("",)
        inner.setdefault(top, set()).add(rest[0] if rest else "")
    copies = {top for top, names in inner.items() if top and len(names) > 1 and names <= inner.keys() - {top, ""}}
    copied = [path for path in images if path.parts[depth] in copies]
    reason = "a second copy of the class folders beside it"
    return [path for path in images if path not in set(copied)], [Problem(str(path), reason) for path in copied]


def _wrapping(images: Sequence[PurePosixPath]) -> int:
    """How many folders lie around everything: levels at which all share one name and still have a folder below."""
    depth = 0
    while True:
        names = {path.parts[depth] if len(path.parts) > depth + 2 else None for path in images}
        if len(names) != 1 or None in names or _is_label(str(next(iter(names)))):
            return depth
        depth += 1


def _is_index(folder: str) -> bool:
    return folder.isdecimal() and int(folder) <= HIGHEST_INDEX


def _is_label(folder: str) -> bool:
    return _is_index(folder) or WNID.fullmatch(folder) is not None


def _named(folders: Sequence[str]) -> str:
    """The layout that the names of the top folders speak for; the result is shown and can be overruled."""
    if folders and all(map(_is_index, folders)):
        return "class index"
    if folders and all(WNID.fullmatch(folder) for folder in folders):
        return "WordNet id"
    return "class folders" if len(folders) > 1 else "unlabelled"


def _indexed(folders: Sequence[str], layout: str, read_table: ReadTable) -> tuple[Mapping[str, int], tuple[str, ...]]:
    """Class index of each folder, and the class names in index order."""
    if layout == "class index":
        return _by_number(folders)
    order = _order(read_table)
    if layout == "WordNet id" and order is None:
        order = imagenet_wnids()
    if order is None:
        order = tuple(folders)
    index = {name: place for place, name in enumerate(order)}
    missing = [folder for folder in folders if folder not in index]
    if missing:
        raise InputError(
            f"folder {missing[0]!r} is not in the list of classes; put classes.txt (one folder name a line, in class "
            "order) or LOC_synset_mapping.txt beside the folders."
        )
    return index, order


def _by_number(folders: Sequence[str]) -> tuple[Mapping[str, int], tuple[str, ...]]:
    wrong = [folder for folder in folders if not folder.isdecimal()]
    if wrong:
        raise InputError(f"folder {wrong[0]!r} is no class index; use layout class folders.")
    index = {folder: int(folder) for folder in folders}
    if len(set(index.values())) != len(index):
        raise InputError("two folders are the same class index (such as 7 and 07); merge them.")
    return index, tuple(map(str, range(max(index.values()) + 1)))


def _order(read_table: ReadTable) -> tuple[str, ...] | None:
    """Folder names in class order from classes.txt or LOC_synset_mapping.txt, whichever is there."""
    text = read_table("classes.txt")
    if text is not None:
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    text = read_table("LOC_synset_mapping.txt")
    return None if text is None else tuple(line.split()[0] for line in text.splitlines() if line.strip())


def _solutions(images: Sequence[PurePosixPath], read_table: ReadTable) -> tuple[int | None, ...] | None:
    """Labels of ImageNet's flat validation folder from LOC_val_solution.csv: "ImageId,PredictionString" (id first)."""
    text = read_table("LOC_val_solution.csv")
    if text is None:
        return None
    index = {wnid: place for place, wnid in enumerate(imagenet_wnids())}
    rows = {row["ImageId"]: row["PredictionString"].split()[0] for row in csv.DictReader(text.splitlines())}
    return tuple(index.get(rows.get(path.stem, "")) for path in images)
