"""The lock files: complete, hashed, free of addresses, and without two packages that share an import name."""

import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("base", "test", "lint")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = [name for names in PROJECT["project"]["optional-dependencies"].values() for name in names]
GROUPS = PROJECT["dependency-groups"]
NEEDS = {"base": PROJECT["project"]["dependencies"]}
NEEDS["test"] = [*NEEDS["base"], *EXTRAS, *GROUPS["test"], *GROUPS["browser"]]
NEEDS["lint"] = [*NEEDS["test"], *GROUPS["lint"]]


def text(lock: str) -> str:
    return (ROOT / "requirements" / f"{lock}.lock").read_text()


def blocks(lock: str) -> list[str]:
    """One entry per requirement, its continuation lines joined."""
    return [line for line in text(lock).replace("\\\n", " ").splitlines() if line.strip()]


def pins(lock: str) -> set[tuple[str, str]]:
    found = (re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;]+)", block) for block in blocks(lock))
    return {(canonicalize_name(match[1]), match[2]) for match in found if match}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_package_index(lock: str) -> None:
    assert not re.search(r"://|--(extra-)?index-url|--find-links|@ ", text(lock))


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_is_pinned_and_hashed(lock: str) -> None:
    loose = [block for block in blocks(lock) if not re.match(r"\S+==\S+ .*--hash=sha256:[0-9a-f]{64}", block)]
    assert loose == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_what_pyproject_asks_for(lock: str) -> None:
    pinned = pins(lock)
    assert pinned
    for wanted in map(Requirement, NEEDS[lock]):
        versions = {version for name, version in pinned if name == canonicalize_name(wanted.name)}
        fitting = [version for version in versions if wanted.specifier.contains(Version(version), prereleases=True)]
        assert fitting, f"{wanted} is not in requirements/{lock}.lock (it has {versions}); run ./run lock"


@pytest.mark.parametrize(("smaller", "larger"), [("base", "test"), ("test", "lint")])
def test_a_larger_lock_has_the_same_pins_so_that_one_venv_serves_all_commands(smaller: str, larger: str) -> None:
    assert pins(smaller) <= pins(larger)


def test_only_django_fsm_2_provides_django_fsm() -> None:
    assert Version("4.2.4") <= Version(metadata.version("django-fsm-2")) < Version("5")
    for twin in ("django-fsm", "django-fsm-admin"):
        with pytest.raises(metadata.PackageNotFoundError):
            metadata.version(twin)
    assert metadata.packages_distributions()["django_fsm"] == ["django-fsm-2"]


def test_no_lock_that_records_an_index_is_in_the_repository() -> None:
    try:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is not a git repository")
    assert not [name for name in listed.splitlines() if re.search(r"(^|/)(uv\.lock|pylock.*\.toml)$", name)]
