"""`app`: serve the dashboard."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from xai.commands.spec import COMMANDS, Command
from xai.errors import InputError


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `app`."""
    parser.add_argument("--address", help="network address to listen on (default: 127.0.0.1, this machine only)")
    parser.add_argument("--port", type=int, help="port to listen on (default: 8501, or the next one that is free)")


def run(args: argparse.Namespace) -> int:
    """Serve the pages until Ctrl-C; the theme and limits are those of `.streamlit/config.toml`."""
    from xai.settings import HOME

    options: list[str] = []
    if args.address is not None:
        options += ["--server.address", args.address]
    if args.port is not None:
        if not 1 <= args.port <= 65535:
            raise InputError(f"--port is {args.port}; give a port from 1 to 65535.")
        options += ["--server.port", str(args.port)]
    words = [sys.executable, "-m", "streamlit", "run", str(HOME / "streamlit_app.py"), *options]
    search = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]  # the pages import this `xai`
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, search))}
    if os.name == "nt":
        return subprocess.run(words, env=env, check=False).returncode
    sys.stdout.flush()
    return os.execve(sys.executable, words, env)  # so that a signal to this process reaches the server


COMMANDS.add(Command("app", "serve the dashboard in a browser", 5, add_options, run))
