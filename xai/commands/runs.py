"""`runs`: the runs that there are; one in full; cancel, resume, rename, delete."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from xai.commands._options import add_json
from xai.commands.output import clock, say, say_json, table
from xai.commands.spec import COMMANDS, Command
from xai.errors import InputError

if TYPE_CHECKING:
    from xai.runs.control import Record

DESCRIPTION = """Runs are folders in XAI_RUNS (default: runs, in the working directory): whatever was begun with
--out there, and everything that a page has started. A run is a process of its own; it goes on when the page, the server
or this command has ended."""

EPILOG = """ID is the name of a run's folder.

examples:
  python -m xai runs
  python -m xai runs show train-20261121-101500-3f2a
  python -m xai runs resume train-20261121-101500-3f2a"""

SETTINGS_WIDTH = 100
"""Characters of one setting that `show` prints; all of it is in config.json and in --json."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """`runs` alone lists; the actions are commands of their own."""
    parser.add_argument("--kind", help="only runs of this kind: evaluate, train, ...")
    add_json(parser, "the list")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    for name, told in (
        ("show", "one run in full: settings, figures, the command, the end of its log"),
        ("cancel", "ask a run to stop at its next clean place"),
        ("resume", "go on with a run that was cancelled, has failed or was killed"),
        ("rename", "call a run something else"),
        ("delete", "delete a run's folder and all that is in it"),
    ):
        each = actions.add_parser(name, help=told, description=told)
        each.add_argument("id", metavar="ID", help="name of the run's folder")
        if name == "rename":
            each.add_argument("title", metavar="TITLE", help="what to call it")
        if name == "delete":
            each.add_argument("--yes", action="store_true", help="it is meant; there is no way back")
        else:
            each.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print the run as JSON")


def run(args: argparse.Namespace) -> int:
    """Do what was asked; 0 where it was done."""
    from xai.runs import control as run_control

    if args.action is None:
        _list(run_control.list_runs(args.kind), args.json)
        return 0
    if args.action == "delete":
        if not args.yes:
            found = run_control.get_run(args.id)
            raise InputError(f"deleting {found.title} ({args.id}) cannot be undone; add --yes if it is meant.")
        run_control.delete(args.id)
        say(f"deleted {args.id}")
        return 0
    if args.action == "cancel":
        run_control.cancel(args.id)
    elif args.action == "resume":
        run_control.resume(args.id)
    elif args.action == "rename":
        run_control.rename(args.id, args.title)
    found = run_control.get_run(args.id)
    if args.json:
        say_json(describe(found))
    elif args.action == "show":
        _show(found)
    else:
        state = "stopping" if found.stopping else found.status.state
        say(f"{found.title}: {state}")
    return 0


def describe(found: Record) -> dict[str, Any]:
    """A run as JSON holds it; times in seconds since 1970."""
    from dataclasses import asdict

    return {
        "id": found.id,
        "kind": found.kind,
        "title": found.title,
        "folder": str(found.path),
        "status": asdict(found.status),
        "stopping": found.stopping,
        "damaged": found.fault or None,
        "asked": found.asked,
        "started": found.started or None,
        "seconds": found.seconds,
        "command": found.command or None,
        "settings": found.config,
    }


def _list(found: list[Record], as_json: bool) -> None:
    from xai.settings import runs_dir

    if as_json:
        say_json([describe(each) for each in found])
        return
    if not found:
        say(f"no runs in {runs_dir()}")
        return
    rows = []
    for each in found:
        status = each.status
        state = "damaged" if each.fault else "stopping" if each.stopping else status.state
        told = status.note if status.active else status.error
        rows.append([each.id, each.kind, state, _share(each), _when(each.asked), clock(each.seconds), each.title, told])
    say(table(["ID", "KIND", "STATE", "DONE", "ASKED", "TIME", "TITLE", "NOTE"], rows))


def _show(found: Record) -> None:
    from xai.runs.folder import RunFolder

    folder, status = RunFolder(found.path), found.status
    facts = [
        ("title", found.title),
        ("kind", found.kind),
        ("state", "damaged" if found.fault else status.state),
        ("done", f"{status.done} of {status.total}" if status.total else ""),
        ("note", status.note),
        ("error", status.error),
        ("asked", _when(found.asked)),
        ("worked", clock(found.seconds) if found.started else ""),
        ("command", found.command),
        ("folder", str(found.path)),
    ]
    say(table(["", ""], [pair for pair in facts if pair[1]]).lstrip("\n"))
    if found.config:
        say("\nsettings")
        say(table(["", ""], [[f"  {name}", _short(value)] for name, value in found.config.items()]).lstrip("\n"))
    if status.state == "done" and not found.fault:
        say("\nsummary")
        say_json(folder.summary())
    elif status.state == "failed":
        say("\nthe end of log.txt")
        for line in folder.tail():
            say(f"  {line}")


def _share(found: Record) -> str:
    status = found.status
    return f"{100 * status.done // status.total} %" if status.total else ""


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else ""


def _short(value: Any) -> str:
    import json

    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= SETTINGS_WIDTH else f"{text[: SETTINGS_WIDTH - 1]}…"


COMMANDS.add(
    Command(
        name="runs",
        summary="list the runs; show, cancel, resume, rename or delete one",
        rank=90,
        add_options=add_options,
        run=run,
        description=DESCRIPTION,
        epilog=EPILOG,
    )
)
