"""The terminal: `python -m xai COMMAND`. The commands are files in `xai/commands`.

Exit codes: 0 done; 1 failed; 2 bad input, with one line on stderr; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from xai.commands.output import tell
from xai.commands.spec import COMMANDS
from xai.errors import Cancelled, InputError, XaiError
from xai.version import __version__

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class Parser(argparse.ArgumentParser):
    """A parser that raises `InputError` instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        """One sentence, with where to look."""
        raise InputError(f"{message}; see {self.prog} --help.")


def parser() -> argparse.ArgumentParser:
    """The parser with every command."""
    top = Parser(
        prog="python -m xai",
        description="What does an image classifier look at, and should it be believed?",
        epilog="Exit codes: 0 done, 1 failed, 2 bad input (one line on stderr), 130 stopped by Ctrl-C.",
    )
    top.add_argument("--version", action="version", version=f"olhar {__version__}")
    top.add_argument("--traceback", action="store_true", help="show where a failure comes from")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        each = commands.add_parser(
            command.name,
            help=command.summary,
            description=command.description or command.summary,
            epilog=command.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_options(each)
        each.set_defaults(run=command.run)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; gives the exit code. `argv` is `sys.argv[1:]` where it is None."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file name must not break the output
    warnings.filterwarnings("ignore", module="PIL")  # what is wrong with a file is told once, in a sentence
    loud = False
    try:
        args = parser().parse_args(words)
        args.words = words
        loud = args.traceback
        code: int = args.run(args)
        sys.stdout.flush()
    except InputError as error:
        return _failed(error, str(error), BAD_INPUT, loud)
    except (Cancelled, KeyboardInterrupt):
        tell("stopped.")
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except XaiError as error:
        return _failed(error, str(error), FAILED, loud)
    except Exception as error:
        hint = "" if loud else " (python -m xai --traceback ... shows where)"
        return _failed(error, f"{type(error).__name__}: {error}{hint}", FAILED, loud)
    return code


def _failed(error: Exception, text: str, code: int, loud: bool) -> int:
    if loud:
        import traceback

        traceback.print_exception(error)
    tell(f"error: {' '.join(text.split())}")
    return code
