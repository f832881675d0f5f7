"""Takes the pictures of Prefect's pages that the documentation shows: python docs/screenshots.py.

The demo three times in one folder, watched by `oscar-flow server --db` on a PostgreSQL of its own:
first whole; then with another setting and a time limit that one training does not keep; then
without the limit, which goes on where that stopped. Needs the extra `docs`, Chromium and
PostgreSQL; about twelve minutes.
"""

import argparse
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.builders_flows import PYTHON  # noqa: E402  # the line above makes it findable
from tests.postgres import postgres  # noqa: E402  # as above
from tests.prefect_server import ask, plain_environment, serving  # noqa: E402  # as above

CHROMIUM = "/usr/bin/chromium"
OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
SIZE = (1280, 800)
PAINT_SECONDS = 25.0
"""The run graph is drawn late, and only in real time: 9 s on a quiet machine."""
COLOURS = 200
CHANGED = ("--set", "tasks.captioning.training.steps=330")
LIMITED = ("--set", "limits.train.seconds=10.0")


def main() -> int:
    """Make the runs, take the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        with (
            postgres(Path(folder) / "database") as database,
            serving(runs / ".prefect", "--db", database.url) as server,
        ):
            make_runs(runs, server)
            take_pictures(server, out)
    return 0


def make_runs(runs: Path, server: str) -> None:
    """Three starts of one run folder; the second fails.

    Raises:
        RuntimeError: A start ended otherwise than it should.
    """
    for arguments, status in (((), 0), ((*CHANGED, *LIMITED), 2), (CHANGED, 0)):
        command = [PYTHON, "-W", "ignore", "-m", "flows", "run", "demo.yaml"]
        ended = subprocess.run(
            [*command, "--out", str(runs / "demo"), *arguments],
            cwd=ROOT,
            env=plain_environment(PREFECT_API_URL=server),
        )
        if ended.returncode != status:
            raise RuntimeError(f"{' '.join(arguments)}: exit status {ended.returncode}")


def take_pictures(server: str, out: Path) -> None:
    """The four pictures."""
    runs = sorted(ask(server, "flow_runs", {}), key=lambda run: str(run["created"]))
    whole, failed, retried = (f"/v2/runs/flow-run/{run['id']}" for run in runs)
    shown, later = _artifacts(server, runs[0]["id"]), _artifacts(server, runs[2]["id"])
    at = "/v2/artifacts/artifact"
    with browser(server.removesuffix("/api")) as take:
        save(out / "prefect-run.png", take(whole))
        save(
            out / "prefect-artifacts.png",
            take(f"{at}/{shown['losses-pretrain']}"),
            take(f"{at}/{shown['seen']}"),
            take(f"{at}/{shown['captions-captioning-predict']}"),
        )
        save(out / "prefect-metrics.png", take(f"{at}/{later['metrics']}"))
        save(out / "prefect-retry.png", take(failed), take(retried))


def _artifacts(server: str, run: str) -> dict[str, str]:
    """Key -> id."""
    found = ask(server, "artifacts", {"artifacts": {"flow_run_id": {"any_": [run]}}})
    return {each["key"]: each["id"] for each in found}


@contextmanager
def browser(root: str) -> Iterator[Callable[[str], Image.Image]]:
    """A browser that takes a picture of the page at a path."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        page = chromium.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})

        def take(path: str) -> Image.Image:
            page.goto(f"{root}{path}")
            page.wait_for_timeout(PAINT_SECONDS * 1000)
            return Image.open(io.BytesIO(page.screenshot()))

        yield take
        chromium.close()


def save(place: Path, *pictures: Image.Image) -> None:
    """One below the other, with few colours: the pages have no more."""
    height = sum(each.height for each in pictures)
    whole = Image.new("RGB", (pictures[0].width, height), "white")
    top = 0
    for each in pictures:
        whole.paste(each, (0, top))
        top += each.height
    whole.quantize(COLOURS, dither=Image.Dither.NONE).save(place, optimize=True)
    print(f"{place}: {place.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
