"""Which images belong together (a patient, a series, a camera): from a table, a pattern in file names, or folders."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath

from xai.data.spec import Item
from xai.errors import InputError
from xai.files import user_path
from xai.words import counted

CSV_BYTES = 16 * 1024 * 1024

PATTERN, SECONDS = 200, 5
"""Most characters of a regular expression, and how long it may take over all names."""

NAMED = 3
"""Files that a sentence names; of the others it says how many."""


def groups_by(items: Sequence[Item], how: str) -> tuple[tuple[str, ...], str]:
    """(the group of every item, "" where it has none; one sentence that says how many have one).

    how: the path of a CSV with the columns file and group, or a regular expression that is searched in the path of each
    image: its first bracketed part, or all that it finds, is the group. Raises `InputError` where no image has a group.
    """
    if how.lower().endswith(".csv"):
        table = read_table(user_path(how))
        found = matched(table, [item.key for item in items], Path(how).name)
        groups = tuple(table[found[item.key]] if item.key in found else "" for item in items)
        told = matched_sentence(table, found, Path(how).name)
    else:
        groups, told = _by_pattern(items, how), f"groups from the file names by {how!r}"
    with_one = sum(map(bool, groups))
    if not with_one:
        raise InputError(
            f"{told}: none of the {counted(len(items), 'image')} has a group, such as {items[0].key}; correct --groups."
        )
    rest = len(items) - with_one
    alone = f"; the other {rest} stand{'s' * (rest == 1)} alone" * bool(rest)
    kinds = len(set(groups) - {""})
    return groups, f"{told}: {with_one} of {counted(len(items), 'image')} in {counted(kinds, 'group')}{alone}"


def _by_pattern(items: Sequence[Item], how: str) -> tuple[str, ...]:
    """The groups by a regular expression, searched by a process of its own.

    Python's `re` keeps every thread waiting, and "(a+)+$" takes twice as long for every letter more.
    """
    if len(how) > PATTERN:
        raise InputError(f"groups is a regular expression of {len(how)} characters; give at most {PATTERN}.")
    asked = json.dumps([how, [item.key for item in items]]).encode()
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _SEARCH], input=asked, capture_output=True, timeout=SECONDS, check=True
        )
    except subprocess.TimeoutExpired:
        raise InputError(
            f"groups {how!r} takes longer than {SECONDS} s on {counted(len(items), 'name')}; give a simpler regular "
            "expression, without a repeat inside a repeat."
        ) from None
    answer: list[str] | str = json.loads(done.stdout)
    if isinstance(answer, str):
        raise InputError(
            f"groups {how!r} is no regular expression ({answer}); give one such as 'patient(\\d+)', or a .csv file."
        )
    return tuple(answer)


_SEARCH = """
import json, re, sys
how, keys = json.load(sys.stdin)
try:
    pattern = re.compile(how)
except (re.error, RecursionError, OverflowError) as error:
    json.dump(str(error), sys.stdout)
else:
    hits = map(pattern.search, keys)
    json.dump(["" if hit is None else (hit[1] if pattern.groups else hit[0]) or "" for hit in hits], sys.stdout)
"""


def read_table(path: Path) -> dict[str, str]:
    """The group of each file that the CSV at `path` names; raises `InputError` for what is no such table."""
    if not path.is_file():
        raise InputError(f"groups {str(path)!r} is no file; give a CSV with the columns file and group.")
    if path.stat().st_size > CSV_BYTES:
        raise InputError(f"{path.name} is larger than {CSV_BYTES // 2**20} MB; is it the right one?")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not text in UTF-8; save it as a CSV in UTF-8.") from error
    return table_of(text, path.name)


def table_of(text: str, name: str) -> dict[str, str]:
    """The group of each file from a CSV's text with the columns file and group; raises `InputError` for two groups."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns, rows = reader.fieldnames or (), list(reader)
    except csv.Error as error:
        raise InputError(f"{name} cannot be read as a CSV ({error}); is a quotation mark left open?") from error
    if not {"file", "group"} <= set(columns):
        raise InputError(
            f"{name} has the columns {', '.join(columns) or 'none'}; it needs file and group, with a comma between."
        )
    table: dict[str, str] = {}
    for row in rows:
        file, group = (row["file"] or "").strip().replace("\\", "/"), (row["group"] or "").strip()
        if not (file or group):  # an empty line of a spreadsheet
            continue
        if not file:
            raise InputError(f"{name} has a line with the group {group} and no file; name the file, or drop the line.")
        if row["group"] is None:
            raise InputError(f"{name} has a line with the file {file} and nothing after it; add a comma and its group.")
        if any(row.get(None) or ()):
            raise InputError(
                f"{name} has a line with more values than columns ({file},{group},...); put a value that holds a comma "
                "between quotation marks."
            )
        file = str(PurePosixPath(file))  # "./cat/1.png" too
        if table.setdefault(file, group) != group:
            raise InputError(f"{name} has two groups for {file}: {table[file]} and {group}; keep one line.")
    return table


def matched(table: Mapping[str, str], keys: Collection[str], name: str) -> dict[str, str]:
    """The line of the table `name`, by its file, that means each key; keys that no line means are not in it.

    A line means the image of the same path, else the only one whose path ends with it or that it ends with: so a table
    of a folder fits its zip, which often has one folder around everything, and a bare name fits where it is unique. Of
    two lines for one image the one that has more of its path counts. Raises `InputError` where two that have equally
    much give it different groups.
    """
    by_name: dict[str, list[str]] = {}
    for key in keys:
        by_name.setdefault(PurePosixPath(key).name, []).append(key)
    known = frozenset(keys)
    found: dict[str, tuple[int, str]] = {}
    for file in sorted(table, key=lambda each: each not in known):
        own = PurePosixPath(file).parts
        if file in known:
            fits = [file]
        else:
            near = by_name.get(own[-1], []) if own else []
            fits = [key for key in near if _ends(PurePosixPath(key).parts, own) or _ends(own, PurePosixPath(key).parts)]
        if len(fits) != 1:
            continue
        key = fits[0]
        much = len(own) if len(own) <= key.count("/") else key.count("/") + 1 + (file == key)
        before, other = found.get(key, (0, ""))
        if much == before and table[other] != table[file]:
            raise InputError(
                f"{name} has two lines for {key}: {other} with the group {table[other]} and {file} with the group "
                f"{table[file]}; keep one."
            )
        if much >= before:
            found[key] = much, file
    return {key: file for key, (_, file) in found.items()}


def matched_sentence(table: Mapping[str, str], found: Mapping[str, str], name: str) -> str:
    """How many lines of a table mean an image of the data, and some of those that do not."""
    used = set(found.values())
    unused = [file for file in table if file not in used]
    told = f"groups from {name}, {len(table) - len(unused)} of {counted(len(table), 'line')} matched"
    if unused:
        more = f" and {len(unused) - NAMED} more" if len(unused) > NAMED else ""
        told += f" (not: {', '.join(unused[:NAMED])}{more})"
    return told


def _ends(parts: tuple[str, ...], end: tuple[str, ...]) -> bool:
    return parts[-len(end) :] == end
