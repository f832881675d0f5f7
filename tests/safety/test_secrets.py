"""Secrets of the environment reach no file of a run, no message, no table of Prefect's."""

import os
import subprocess
from pathlib import Path

import pytest

from flows.config import read_config
from flows.errors import ConfigError
from storage.errors import StorageError
from storage.places import Place
from storage.urls import carries_secret, masked
from tests.builders_flows import PYTHON, ROOT, python_environment
from tests.command_line import oscar
from tests.prefect_server import free_port, plain_environment, serving

CANARY = "c4n4ry"
SECRETS = {
    "AWS_ACCESS_KEY_ID": f"{CANARY}-key",
    "AWS_SECRET_ACCESS_KEY": f"{CANARY}-secret",
    "FSSPEC_FTP_PASSWORD": f"{CANARY}-ftp",
    "OSCAR_FLOW_AUTH": f"oscar:{CANARY}-page",
    "PREFECT_API_AUTH_STRING": f"oscar:{CANARY}-page",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://prefect:{CANARY}-db@db/x",
}


def files_that_tell(folder: Path) -> list[str]:
    """Names of files that hold a secret."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path.name for path in files if CANARY.encode() in path.read_bytes()]


def run_plan(folder: Path, module: str, *arguments: str, **environment: str) -> str:
    ended = subprocess.run(
        [PYTHON, "-W", "ignore", "-m", f"tests.{module}", str(folder), *arguments],
        env=plain_environment() | python_environment() | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    return ended.stdout + ended.stderr


def test_a_run_keeps_and_tells_none(tmp_path: Path) -> None:
    printed = run_plan(tmp_path / "run", "run_fake_plan", "0.1", **SECRETS)
    assert CANARY not in printed
    assert (tmp_path / "run" / "logs").is_dir()
    assert files_that_tell(tmp_path / "run") == []


@pytest.mark.prefect
def test_under_a_server_with_password_neither_run_nor_database_keeps_one(tmp_path: Path) -> None:
    login = SECRETS["OSCAR_FLOW_AUTH"]
    with serving(tmp_path / "home", OSCAR_FLOW_AUTH=login) as api:
        place = {"PREFECT_API_URL": api, "PREFECT_HOME": str(tmp_path / "client")}
        own = {k: v for k, v in SECRETS.items() if "DATABASE" not in k} | place
        printed = run_plan(tmp_path / "run", "run_prefect_plan", "bad", **own)
    assert "error: right" in printed  # the step that is to fail, and not the server
    assert CANARY not in printed
    assert files_that_tell(tmp_path) == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "postgresql+asyncpg://prefect:c4n4ry@db:5432/p",
            "postgresql+asyncpg://prefect:***@db:5432/p",
        ),
        ("postgresql://prefect:a/c4n4ry@b@db/p", "postgresql://prefect:***@db/p"),
        (
            "postgresql://db/p?user=x&password=c4n4ry&a=b",
            "postgresql://db/p?user=x&password=***&a=b",
        ),
        ("ftp://:c4n4ry@host/x", "ftp://:***@host/x"),
    ],
)
def test_a_url_is_told_without_its_secret(url: str, shown: str) -> None:
    assert masked(url) == shown
    assert carries_secret(url)


@pytest.mark.parametrize(
    "url", ["s3://bucket/a", "http://host:8080/a@b", "ftp://user@host/x", "s3://bucket/a:b@c", "a"]
)
def test_a_url_without_secret_stays_as_it_is(url: str) -> None:
    assert masked(url) == url
    assert not carries_secret(url)


def test_a_place_is_not_named_with_its_password() -> None:
    with pytest.raises(StorageError, match=r"^ftp://user:\*\*\*@host/x: name it without password"):
        Place("ftp://user:c4n4ry@host/x")


def test_a_configuration_keeps_no_password() -> None:
    with pytest.raises(ConfigError, match="without password") as refused:
        read_config(Path("demo.yaml"), ["scale.shared=s3://key:c4n4ry@bucket/x"])
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://prefect:{CANARY}@127.0.0.1:1/p",
        f"postgresql://prefect:{CANARY}/x@127.0.0.1:1/p",
        f"mysql://prefect:{CANARY}@127.0.0.1:1/p",
    ],
)
def test_a_database_that_cannot_be_had_is_named_without_password(
    url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "OSCAR_FLOW_"))]:
        monkeypatch.delenv(name)
    home = ("--home", str(tmp_path), "--port", str(free_port()))
    said = oscar(capsys, monkeypatch, "server", "--db", url, *home)
    assert said.status == 2
    assert said.err.startswith("error: ")
    assert CANARY not in said.out + said.err
