"""`./run`: it says what is wrong, starts the whole desk, and leaves nothing behind."""

import ast
import importlib.machinery
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.tooling.programs import RUN, Program, answer, clean_environment, free_port, processes_with

Launch = Callable[[list[str], dict[str, str]], Program]


@pytest.fixture
def script() -> ModuleType:
    """`run` as a module, so that its parts can be asked without installing anything."""
    loader = importlib.machinery.SourceFileLoader("orderdesk_run", str(RUN))
    loader.path = str(RUN)
    spec = importlib.util.spec_from_loader("orderdesk_run", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def said(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RUN), *arguments]
    return subprocess.run(
        command, env=clean_environment(**environment), capture_output=True, text=True, timeout=240, check=False
    )


def test_an_unknown_command_is_answered_with_the_list_of_commands() -> None:
    result = said("tset")
    assert result.returncode != 0
    assert "'tset'" in result.stderr
    for command in ("./run test", "./run lint", "./run manage", "./run lock", "./run help"):
        assert command in result.stderr


def test_help_is_no_failure() -> None:
    result = said("help")
    assert result.returncode == 0
    assert "./run test" in result.stdout


def test_a_taken_port_is_said_with_what_to_do() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = said(PORT=str(port))
    assert result.returncode != 0
    assert f"port {port}" in result.stderr
    assert f"PORT={port + 1} ./run" in result.stderr


@pytest.mark.parametrize("port", ["http", "0", "70000", "-1"])
def test_a_port_that_is_none_is_refused_by_name(port: str) -> None:
    result = said(PORT=port)
    assert result.returncode != 0
    assert "PORT is" in result.stderr


@pytest.mark.parametrize(
    ("name", "value"), [("DATABASE_URL", "postgress://nobody@127.0.0.1/desk"), ("CELERY_BROKER_URL", "redi://x")]
)
def test_a_wrong_address_is_refused_by_the_name_of_its_variable(name: str, value: str, tmp_path: Path) -> None:
    result = said(**{"PORT": str(free_port()), "VAR_DIR": str(tmp_path), name: value})
    assert result.returncode != 0
    assert name in result.stdout + result.stderr


def test_an_old_python_reads_the_script_far_enough_to_say_what_is_needed(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    ast.parse(RUN.read_text(), feature_version=(3, 7))
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match=r"Python 3\.11 or later is needed; this is 3\.9\.2"):
        script.use_new_enough_python()


def test_a_python_without_venv_names_the_package_that_brings_it(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(script, "VENV", tmp_path / "venv")
    monkeypatch.setattr(script, "PYTHON", tmp_path / "venv" / "bin" / "python")
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(SystemExit, match=r"apt install python3\.\d+-venv"):
        script.make_venv()


def test_a_venv_is_left_alone_while_its_lock_or_a_larger_one_is_installed(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[list[str]] = []

    def remember(command: list[str], **environment: str) -> int:
        asked.append(command)
        return 0

    monkeypatch.setattr(script, "VENV", tmp_path)
    monkeypatch.setattr(script, "PYTHON", tmp_path / "python")
    monkeypatch.setattr(script, "make_venv", lambda: None)
    monkeypatch.setattr(script, "call", remember)
    (tmp_path / "python").touch()

    script.install("test")
    assert [command[-1] for command in asked] == ["requirements/test.lock"]
    script.install("test")
    script.install("base")
    assert len(asked) == 1, "what is installed already was installed again"
    script.install("lint")
    assert asked[-1][-1] == "requirements/lint.lock"
    (tmp_path / "orderdesk-stamp").write_text("lint of another day")
    script.install("base")
    assert asked[-1][-1] == "requirements/base.lock"


def start(launch: Launch, home: Path, **more: str) -> tuple[Program, str]:
    port = free_port()
    program = launch(
        [sys.executable, str(RUN)], clean_environment(PORT=str(port), VAR_DIR=str(home), LOG_LEVEL="INFO", **more)
    )
    program.says("Orderdesk is ready", seconds=90)
    return program, f"http://127.0.0.1:{port}"


@pytest.mark.nightly
@pytest.mark.timeout(240)
def test_the_desk_starts_with_one_command_stops_with_ctrl_c_and_starts_again_in_seconds(
    launch: Launch, tmp_path: Path
) -> None:
    program, address = start(launch, tmp_path)
    for path in ("/admin/", "/api/docs/"):
        assert f"localhost:{address.rpartition(':')[2]}{path}" in program.output
    assert answer(f"{address}/healthz")[0] == 200
    assert answer(f"{address}/api/docs/")[0] == 200
    status, page = answer(f"{address}/admin/")
    assert (status, "csrfmiddlewaretoken" in page) == (200, True)
    program.says(r"worker +\| .*ready\.")
    program.says(r"worker +\| .*shop\.drain.*(received|succeeded)")  # beat → broker → worker
    assert processes_with(f"VAR_DIR={tmp_path}")
    assert program.stop(signal.SIGINT) == 0
    assert "killed" not in program.output
    assert processes_with(f"VAR_DIR={tmp_path}") == []

    began = time.monotonic()
    program, _ = start(launch, tmp_path)
    assert "installing" not in program.output
    assert time.monotonic() - began < 30
    assert program.stop(signal.SIGTERM) == 0
    assert processes_with(f"VAR_DIR={tmp_path}") == []


@pytest.mark.nightly
@pytest.mark.kill
def test_when_one_part_dies_the_rest_is_stopped_and_it_is_named(launch: Launch, tmp_path: Path) -> None:
    program, _ = start(launch, tmp_path, DEMO="no", SECRET_KEY="of-this-test-only-" + "k" * 50)
    children = Path(f"/proc/{program.process.pid}/task/{program.process.pid}/children").read_text().split()
    worker = next(int(pid) for pid in children if "\0worker\0" in Path(f"/proc/{pid}/cmdline").read_text())
    os.kill(worker, signal.SIGKILL)
    assert program.ends() == 1
    assert "worker ended by itself with -9" in program.output
    assert processes_with(f"VAR_DIR={tmp_path}") == []
