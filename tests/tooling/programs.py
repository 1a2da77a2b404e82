"""Starting the real programs: `./run` and the commands of docker-compose.yml, as processes one can ask and stop."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "run"
OF_THE_DESK = "DATABASE_URL|CELERY_BROKER_URL|SECRET_KEY|DEMO|DEBUG|VAR_DIR|SITE_URL|PORT|HOST|LOG_LEVEL|PYTEST.*"


class Program:
    """A started program: its output as it grows, and how it ends."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.output = ""
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.output += line

    def says(self, pattern: str, seconds: float = 200) -> re.Match[str]:
        """Wait until the output has the pattern; an end before that is a failure."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            alive = self.process.poll() is None
            found = re.search(pattern, self.output)
            if found:
                return found
            assert alive, f"ended with {self.process.returncode} without saying {pattern!r}:\n{self.output}"
            time.sleep(0.1)
        raise AssertionError(f"did not say {pattern!r} in {seconds} s:\n{self.output}")

    def stop(self, with_signal: signal.Signals = signal.SIGTERM, seconds: float = 100) -> int:
        self.process.send_signal(with_signal)
        return self.ends(seconds)

    def ends(self, seconds: float = 200) -> int:
        code = self.process.wait(seconds)
        self.reader.join(5)
        return code


def clean_environment(**more: str) -> dict[str, str]:
    """The environment of this test run without what the desk itself would read from it, and with `more`."""
    kept = {name: value for name, value in os.environ.items() if not re.fullmatch(OF_THE_DESK, name)}
    return {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}", "PYTHONUNBUFFERED": "1", **more}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answer(url: str) -> tuple[int, str]:
    """Status and body of a GET; 0 where nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=20) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def wait_for(url: str, program: Program, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while answer(url)[0] != 200:
        assert program.process.poll() is None, f"ended with {program.process.returncode}:\n{program.output}"
        assert time.monotonic() < deadline, f"{url} does not answer:\n{program.output}"
        time.sleep(0.2)


def processes_with(words: str) -> list[str]:
    """Command lines of the running processes whose environment holds `words` (Linux only)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if words.encode() in (entry / "environ").read_bytes() and state != "Z":
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found
