"""`app`: the dashboard, served from wherever one is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from xai.cli import main

ROOT = Path(__file__).resolve().parents[3]


def answer(url: str, host: str = "") -> int:
    """The status of the answer, 0 while there is none."""
    try:
        request = urllib.request.Request(url, headers={"Host": host} if host else {})
        with urllib.request.urlopen(request, timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_the_app_answers_from_an_empty_folder_with_its_own_limits(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "xai", "app", "--port", str(port)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL) as served:
        try:
            url = f"http://127.0.0.1:{port}/"
            while not (status := answer(url)):
                assert served.poll() is None, "the server has ended"
                time.sleep(0.2)
            assert status == 200
            assert answer(url, "elsewhere.example") == 400  # server.allowedHosts of .streamlit/config.toml
        finally:
            served.send_signal(signal.SIGINT)
        assert served.wait(30) is not None
    assert list(tmp_path.iterdir()) == []
    assert answer(url) == 0  # nothing is left behind


@pytest.mark.parametrize("port", ["0", "65536", "-1"])
def test_a_port_that_cannot_be_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", "--port", port]) == 2
    assert f"--port is {port}; give a port from 1 to 65535" in capsys.readouterr().err
