"""What the tests of the tooling share: which of them run on PostgreSQL, and programs that never outlive a test."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tooling.programs import Program


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run on PostgreSQL only what needs it: locks and `./run` are the same there, and slow."""
    if not os.environ.get("DATABASE_URL", "").startswith("postgres"):
        return
    here = Path(__file__).parent
    again = [item for item in items if here in item.path.parents and not item.get_closest_marker("postgres")]
    config.hook.pytest_deselected(items=again)
    items[:] = [item for item in items if item not in again]


@pytest.fixture
def launch() -> Iterator[Callable[[list[str], dict[str, str]], Program]]:
    """Start programs; whatever a failed test leaves running is killed."""
    started: list[Program] = []

    def start(command: list[str], environment: dict[str, str]) -> Program:
        started.append(Program(command, environment))
        return started[-1]

    yield start
    for program in started:
        if program.process.poll() is None:
            program.process.terminate()  # `run` stops its own children
            try:
                program.process.wait(35)
            except subprocess.TimeoutExpired:
                os.killpg(program.process.pid, signal.SIGKILL)
                program.process.wait()
        program.reader.join(5)
        if program.process.stdout:
            program.process.stdout.close()
