"""Does what docker/ says on this machine, where no container engine is at hand.

`python -m tests.docker.natively FOLDER` makes a fresh clone in FOLDER and follows the files: the
program installed by root, a user without rights, PostgreSQL, server, store and worker with the
commands, variables and health checks of compose.yaml, until a model is learned and promoted. Needs
root, Debian's postgresql, and PyPI for the installation; prints a line for each thing tried. What
it cannot try: images, networks between containers, GPUs, the store's own program (moto stands in).
"""

import os
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.builders_flows import ROOT
from tests.docker.files import DOCKERFILES, filled, run_words, services, variables
from tests.end_to_end.miniature import write_config
from tests.prefect_server import free_port, status_of

USER = ["setpriv", "--reuid=10001", "--regid=10001", "--clear-groups", "--no-new-privs"]
POSTGRES = Path("/usr/lib/postgresql/15/bin")
SYSTEM_PATH = "/usr/bin:/bin"
LEARNED_SECONDS = 900.0


class Trial:
    """A folder, its secrets and ports, and what came out so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app, self.work = folder / "app", folder / "work"
        self.ports = {name: free_port() for name in ("postgres", "server", "store")}
        asked = {name for name, kind in variables().items() if kind == "?"}
        self.secrets = {name: secrets.token_hex(12) for name in asked}
        self.secrets["OSCAR_FLOW_AUTH"] = f"oscar:{self.secrets['OSCAR_FLOW_AUTH']}"
        self.values = {**self.secrets, "OSCAR_CONFIG": "miniature.yaml"}
        self.failures = 0

    def tried(self, what: str, went_well: bool, said: str = "") -> None:
        """Print a line, and remember what went wrong."""
        self.failures += not went_well
        print(f"{'ok  ' if went_well else 'FAIL'}  {what}{': ' + said if said else ''}", flush=True)

    def here(self, text: str) -> str:
        """A value of the compose file for this machine: names of services, ports and places."""
        text = filled(text, self.values)
        for name, port in (("postgres", 5432), ("server", 4200), ("store", 7070)):
            text = text.replace(f"@{name}:{port}", f"@127.0.0.1:{self.ports[name]}")
            text = text.replace(f"//{name}:{port}", f"//127.0.0.1:{self.ports[name]}")
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{self.ports[name]}")
        text = str(self.ports["server"]) if text == "4200" else text
        return text.replace("0.0.0.0", "127.0.0.1").replace("/srv/", f"{self.work}/")

    def environment(self, service: str) -> dict[str, str]:
        """What a container of the service would have."""
        own = services()[service].get("environment", {})
        return {
            "PATH": f"{self.app}/.venv/bin:{SYSTEM_PATH}",
            "HOME": str(self.folder / "home"),
            **{name: self.here(str(value)) for name, value in own.items()},
        }

    def is_well(self, service: str) -> bool:
        """The service's health check, as its user."""
        words = [self.here(word) for word in services()[service]["healthcheck"]["test"][1:]]
        environment = self.environment(service)
        if service == "postgres":
            words += ["--host=127.0.0.1", f"--port={self.ports['postgres']}"]
            environment["PATH"] = f"{POSTGRES}:{SYSTEM_PATH}"
        return quiet(words, environment, self.work) == 0


def main(folder: Path) -> int:
    """Try everything; number of things that went wrong."""
    trial = Trial(folder)
    make_places(trial)
    install(trial)
    with ExitStack() as running:
        running.enter_context(postgres(trial))
        running.enter_context(started(trial, "server"))
        trial.tried("server: health check of compose.yaml", until(lambda: trial.is_well("server")))
        ask_server(trial)
        running.enter_context(store(trial))
        use_store(trial)
        before = time.time()
        running.enter_context(started(trial, "worker"))
        current = trial.work / "runs" / "miniature" / "models" / "current"
        learned = until(lambda: current.is_dir(), LEARNED_SECONDS)
        trial.tried("worker: looks, learns, promotes", learned, f"{time.time() - before:.0f} s")
        trial.tried("worker: health check of compose.yaml", trial.is_well("worker"))
        page = f"http://127.0.0.1:{trial.ports['server']}/reports/miniature"
        shown = status_of(page, login=trial.secrets["OSCAR_FLOW_AUTH"])
        trial.tried("server: shows the run's report", shown == 200, page)
        program = (path for path in trial.app.rglob("*") if ".git" not in path.parts)
        changed = [str(path) for path in program if path.lstat().st_mtime > before]
        trial.tried("nothing was written beside /srv", not changed, ", ".join(changed[:3]))
    tell = [path for path in trial.work.rglob("*") if path.is_file() and holds(path, trial.secrets)]
    trial.tried("no file of /srv holds a secret", not tell, ", ".join(map(str, tell[:3])))
    return trial.failures


def make_places(trial: Trial) -> None:
    """Folders of the image's user, and a small configuration to learn from."""
    for place in (trial.work, trial.work / "runs", trial.folder / "home"):
        place.mkdir()
        os.chown(place, 10001, 10001)
    write_config(trial.work).chmod(0o644)


def install(trial: Trial) -> None:
    """What the cpu image's RUN lines do, from a clone."""
    if trial.app.is_dir():
        print("      the program is taken as it lies in FOLDER/app")
        return
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(trial.app)], check=True)
    [command] = [words for words in run_words(DOCKERFILES[0]) if words[0] == ".ci/install"]
    words = [filled(word, {}) for word in command]
    began = time.time()
    ended = subprocess.run(
        words,
        cwd=trial.app,
        env={**os.environ, "PATH": SYSTEM_PATH, "UV_PYTHON_DOWNLOADS": "never"},
        capture_output=True,
        text=True,
    )
    said = ended.stderr[-300:] if ended.returncode else f"{time.time() - began:.0f} s"
    trial.tried(shlex.join(words), ended.returncode == 0, said)
    help_shown = quiet(["oscar-flow", "--help"], trial.environment("worker"), trial.work) == 0
    trial.tried("a user without rights runs oscar-flow", help_shown)


@contextmanager
def postgres(trial: Trial) -> Iterator[None]:
    """PostgreSQL with the service's user, database, password and options."""
    place, own = trial.folder / "database", trial.environment("postgres")
    place.mkdir()
    shutil.chown(place, "postgres", "postgres")
    secret = trial.folder / "secret"
    secret.write_text(own["POSTGRES_PASSWORD"])
    shutil.chown(secret, "postgres", "postgres")
    options = own["POSTGRES_INITDB_ARGS"]
    run_as_postgres(
        f"{POSTGRES}/initdb -D {place}/data -U {own['POSTGRES_USER']} --auth-local=peer {options}"
        f" --pwfile={secret}"
    )
    secret.unlink()
    listens = f"-c listen_addresses=127.0.0.1 -p {trial.ports['postgres']} -k {place}"
    start = f"{POSTGRES}/pg_ctl -D {place}/data -w -l {place}/log -o '{listens}' start"
    run_as_postgres(start)
    try:
        login = f"PGPASSWORD={own['POSTGRES_PASSWORD']}"
        at = f"-h 127.0.0.1 -p {trial.ports['postgres']} -U {own['POSTGRES_USER']}"
        run_as_postgres(f"{login} {POSTGRES}/createdb {at} {own['POSTGRES_DB']}")
        trial.tried("postgres: health check of compose.yaml", trial.is_well("postgres"))
        wrong = f"PGPASSWORD=wrong {POSTGRES}/psql {at} -c 'select 1' {own['POSTGRES_DB']}"
        refused = subprocess.run(["su", "postgres", "-c", wrong], capture_output=True).returncode
        trial.tried("postgres: refuses a wrong password", refused != 0)
        yield
    finally:
        run_as_postgres(f"{POSTGRES}/pg_ctl -D {place}/data -m fast -w stop")


def run_as_postgres(command: str) -> None:
    """A command of PostgreSQL's, which refuses to be root."""
    subprocess.run(
        ["su", "postgres", "-c", command], check=True, stdout=subprocess.DEVNULL, cwd="/"
    )


@contextmanager
def started(trial: Trial, service: str) -> Iterator[None]:
    """A service of ours with its command, as its user; SIGTERM must end it."""
    words = [trial.here(str(word)) for word in services()[service]["command"]]
    with open(trial.folder / f"{service}.log", "w") as log:
        process = subprocess.Popen(
            [*USER, "oscar-flow", *words],
            env=trial.environment(service),
            cwd=trial.work,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                status: int | str = process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                status = "not ended within a minute"
            trial.tried(f"{service}: ends at SIGTERM", status in (0, 130, 143, -15), str(status))


def ask_server(trial: Trial) -> None:
    """Who knows the password is let in, and nobody else."""
    asked = f"http://127.0.0.1:{trial.ports['server']}/api/admin/version"
    logins = ("", "oscar:wrong", trial.secrets["OSCAR_FLOW_AUTH"])
    found = [status_of(asked, login=login) for login in logins]
    told = "no password, a wrong one, the right one"
    trial.tried(f"server: {told}", found == [401, 401, 200], str(found))


@contextmanager
def store(trial: Trial) -> Iterator[None]:
    """An S3-like server in the store's place."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p"]
    with open(trial.folder / "store.log", "w") as log:
        process = subprocess.Popen([*command, str(trial.ports["store"])], stdout=log, stderr=log)
        try:
            until(lambda: status_of(f"http://127.0.0.1:{trial.ports['store']}/") != 0)
            yield
        finally:
            process.terminate()
            process.wait()


def use_store(trial: Trial) -> None:
    """A worker's environment is all that the shared place needs."""
    program = (
        "from storage.places import Place; place = Place('s3://oscar/shards'); "
        "place.write('a', b'b'); assert place.read('a') == b'b' and place.names() == ['a']"
    )
    went = quiet(["python", "-c", program], trial.environment("worker"), trial.work) == 0
    trial.tried("worker: writes to and reads from the store", went)


def quiet(words: list[str], environment: Mapping[str, str], folder: Path) -> int:
    """Exit status of a command of the user without rights."""
    ended = subprocess.run([*USER, *words], env=environment, cwd=folder, capture_output=True)
    return ended.returncode


def holds(path: Path, known: Mapping[str, str]) -> bool:
    """Whether a file holds one of the secrets."""
    content = path.read_bytes()
    return any(value.rpartition(":")[2].encode() in content for value in known.values())


def until(condition: Callable[[], bool], seconds: float = 180.0) -> bool:
    """Wait for something to come true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(1)
    return False


if __name__ == "__main__":
    sys.exit(1 if main(Path(sys.argv[1])) else 0)
