"""What a command file registers."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from xai.registry import Registry


@dataclass(frozen=True)
class Command:
    """`python -m xai NAME`.

    summary: one line for the list of commands. add_options: fills the command's parser. run: does the work and gives
    the exit code (0 done, 1 failed, 2 bad input); what it raises from `xai.errors` becomes one line and its code.
    """

    name: str
    summary: str
    rank: int
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    description: str = ""
    epilog: str = ""


COMMANDS: Registry[Command] = Registry("command", "xai.commands")
