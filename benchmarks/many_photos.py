"""Many tiny photos, and a run over them whose every step carries a done-mark without the work."""

import io
from pathlib import Path

from PIL import Image

from flows.config import read_config
from flows.digests import DigestBook
from flows.identity import prepare
from flows.pipeline import plan_of
from flows.run_folder import RunFolder
from storage.artifacts import write_done

NUM_PHOTOS = 100_000
PER_FOLDER = 1_000
CONFIG = """
detector_weights: FOLDER/weights
data: {root: FOLDER, images: [{path: photos, namespace: many}]}
"""


def lay_photos(folder: Path) -> Path:
    """Photos of different bytes in a hundred folders; the configuration of a run over them.

    The detector is a file that no step gets to read.
    """
    shown = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 30, 30)).save(shown, "JPEG")
    for number in range(NUM_PHOTOS):
        place = folder / "photos" / f"{number // PER_FOLDER:03d}"
        if number % PER_FOLDER == 0:
            place.mkdir(parents=True)
        (place / f"{number:06d}.jpg").write_bytes(shown.getvalue() + str(number).encode())
    (folder / "weights").mkdir()
    (folder / "weights" / "model.safetensors").write_bytes(b"never read")
    config = folder / "many.yaml"
    config.write_text(CONFIG.replace("FOLDER", str(folder)))
    return config


def mark_all_done(config: Path, out: Path) -> None:
    """Give every step of a run its done-mark, so that nothing is left to do."""
    run = RunFolder(out)
    for step in prepare(plan_of(read_config(config)), run, DigestBook(run.digests)).values():
        step.folder.mkdir(parents=True)
        for name in ("report.html", "metrics.json"):
            (step.folder / name).write_text("{}")
        write_done(step.folder, step.fingerprint, {"num_in": 0, "num_out": 0, "num_quarantined": 0})
