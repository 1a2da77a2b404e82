"""The container files without an engine: the compose file is valid, and the command of every service really runs."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import yaml

from tests.tooling.programs import ROOT, Program, answer, clean_environment, free_port, wait_for

Launch = Callable[[list[str], dict[str, str]], Program]
GIVEN = {"SECRET_KEY": "of-this-test-only-" + "k" * 50, "POSTGRES_PASSWORD": "secret"}
COMPOSE = ROOT / "docker-compose.yml"


def filled_in(text: str, values: dict[str, str]) -> str:
    """What compose does with ${NAME:-default} and ${NAME:?message}."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match[1], match[2], match[3]
        if values.get(name):
            return values[name]
        if kind == ":?":
            raise KeyError(f"{name}: {rest}")
        return rest or ""

    return re.sub(r"(?<!\$)\$\{(\w+)(?:(:[-?])([^}]*))?\}", value, text).replace("$$", "$")


def services() -> dict[str, Any]:
    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: fill(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [fill(inner) for inner in value]
        return filled_in(value, GIVEN) if isinstance(value, str) else value

    found: dict[str, Any] = fill(yaml.safe_load(COMPOSE.read_text())["services"])
    return found


def test_the_compose_file_is_valid() -> None:
    tool = Path(sys.executable).with_name("check-jsonschema")
    command = [str(tool), "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", sorted(GIVEN))
def test_compose_refuses_to_start_without_its_secrets(name: str) -> None:
    with pytest.raises(KeyError, match=f"{name}: set {name}"):
        filled_in(COMPOSE.read_text(), {**GIVEN, name: ""})


def test_every_service_waits_for_what_it_needs() -> None:
    found = services()
    for name, service in found.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in found, f"{name} waits for {other}, which is no service"
            if how["condition"] == "service_healthy":
                assert "test" in found[other]["healthcheck"], f"{name} waits for {other}, which never becomes healthy"
            else:
                assert how["condition"] == "service_completed_successfully"
                assert found[other]["restart"] == "no"
    for name in ("web", "worker", "beat"):
        assert set(found[name]["depends_on"]) == {"db", "redis", "migrate"}


def test_what_the_image_copies_exists_and_is_not_ignored() -> None:
    ignored = {line.strip("/") for line in (ROOT / ".dockerignore").read_text().splitlines()}
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("COPY ")]
    copied = [source for line in lines if "--from" not in line for source in line.split()[1:-1]]
    for source in copied:
        assert (ROOT / source).exists(), f"the Dockerfile copies {source}, which is not there"
        assert source.split("/")[0] not in ignored, f".dockerignore hides {source} from the Dockerfile"
    packages = {path.parent.name for path in ROOT.glob("*/apps.py")}
    assert packages <= set(copied), f"the image lacks {packages - set(copied)}"


def test_the_image_keeps_no_secret_and_runs_as_nobody_special() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert not re.search(r"^(ENV|ARG).*(KEY|PASSWORD|TOKEN|SECRET)", text, re.MULTILINE)
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE)[-1] != "root"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An empty PostgreSQL database and a Redis on loopback, as DATABASE_URL and CELERY_BROKER_URL."""
    postgres, redis = os.environ.get("TEST_POSTGRES_URL"), os.environ.get("TEST_REDIS_URL")
    if not (postgres and redis):
        pytest.skip("the commands of docker-compose.yml were not tried: ./run test found no PostgreSQL or no Redis")
    if not os.environ.get("DATABASE_URL", "").startswith("postgres"):
        pytest.skip("the commands of docker-compose.yml are tried in the run on PostgreSQL")
    name = f"orderdesk_compose_{os.getpid()}"
    server = urlsplit(postgres)._replace(path="/postgres").geturl()
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield {
            "DATABASE_URL": urlsplit(postgres)._replace(path=f"/{name}").geturl(),
            "CELERY_BROKER_URL": urlsplit(redis)._replace(path="/14").geturl(),
        }
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.redis
def test_the_command_of_every_service_runs_and_stops_when_asked(
    launch: Launch, stack: dict[str, str], tmp_path: Path
) -> None:
    found, port = services(), free_port()

    def begin(name: str) -> Program:
        environment = {**found[name]["environment"], **local(found[name]["environment"], stack)}
        command = [word.replace("0.0.0.0:8000", f"127.0.0.1:{port}") for word in found[name]["command"]]
        command = [word.replace("=/tmp/", f"={tmp_path}/") for word in command]
        assert shutil.which(command[0], path=clean_environment()["PATH"]), shlex.join(command)
        return launch(command, clean_environment(**environment, VAR_DIR=str(tmp_path)))

    assert begin("migrate").ends() == 0
    web, worker, beat = begin("web"), begin("worker"), begin("beat")
    wait_for(f"http://127.0.0.1:{port}/healthz", web)
    assert answer(f"http://127.0.0.1:{port}/readyz")[0] == 200
    worker.says(r"ready\.")
    worker.says(r"shop\.drain.*(received|succeeded)")  # beat → Redis → worker
    environment = clean_environment(**stack, SECRET_KEY=GIVEN["SECRET_KEY"], HOSTNAME=socket.gethostname())
    health = ["sh", "-c", found["worker"]["healthcheck"]["test"][1]]
    result = subprocess.run(health, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    for name, program in {"web": web, "worker": worker, "beat": beat}.items():
        assert program.stop() == 0, f"{name} did not stop cleanly:\n{program.output}"


def local(environment: dict[str, str], stack: dict[str, str]) -> dict[str, str]:
    """Put loopback where the file names the services db and redis; anything else there would be a mistake."""
    assert urlsplit(environment["DATABASE_URL"]).hostname == "db"
    assert urlsplit(environment["CELERY_BROKER_URL"]).hostname == "redis"
    return stack
