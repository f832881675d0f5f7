"""Files of a hub that `huggingface_hub` really asks, in a process of its own."""

import json
import os
import subprocess
from pathlib import Path

from tests.builders_flows import PYTHON, ROOT
from tests.prefect_server import free_port
from tests.web_server import COMMIT, serving_hub

FILES = {"config.json": b"{}", "vocab.txt": b"a\nb\n", "tf_model.h5": b"of another framework"}
ASK = """
import json, sys
from storage.errors import SourceError
from storage.sources import cached_path, local_path
told = []
for text in sys.argv[1:]:
    try:
        before = cached_path(text)
        path = local_path(text)
        told.append([before is not None, str(path)])
    except SourceError as error:
        told.append([None, str(error)])
print(json.dumps(told))
"""


def ask(tmp_path: Path, endpoint: str, *sources: str, **environment: str) -> list[list]:
    known = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    own = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(tmp_path / "hub"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_ETAG_TIMEOUT": "1",
        "OSCAR_FLOW_CACHE": str(tmp_path / "cache"),
        "NO_PROXY": "127.0.0.1",
    }
    ended = subprocess.run(
        [PYTHON, "-c", ASK, *sources],
        env=known | own | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return json.loads(ended.stdout)


def test_files_and_whole_repositories_are_kept_and_then_nobody_is_asked(tmp_path: Path) -> None:
    sources = ["hf://owner/name/vocab.txt", f"hf://owner/name@{COMMIT}", "hf://owner/name"]
    with serving_hub(FILES) as endpoint:
        first = ask(tmp_path, endpoint, *sources)
        wrong = ask(
            tmp_path,
            endpoint,
            "hf://owner/other",
            "hf://owner/name@v9",
            "hf://owner/name/gone.txt",
            f"hf://owner/name/vocab.txt#sha256={'0' * 64}",
        )
    assert [was_here for was_here, _ in first] == [False, False, True]
    assert Path(first[0][1]).read_bytes() == FILES["vocab.txt"]
    names = sorted(path.name for path in Path(first[1][1]).iterdir())
    assert names == ["config.json", "vocab.txt"]
    again = ask(tmp_path, f"http://127.0.0.1:{free_port()}", *sources, HF_HUB_OFFLINE="1")
    assert [path for _, path in again] == [path for _, path in first]
    assert all(was_here for was_here, _ in again)
    said = [text for _, text in wrong]
    assert "no such repository" in said[0]
    assert "no such revision" in said[1]
    assert "no such file" in said[2]
    assert "its SHA-256 is" in said[3]


def test_without_a_hub_the_error_says_what_to_put_where(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    file, whole = "hf://owner/name/vocab.txt@v1", "hf://owner/name"
    told = ask(tmp_path, nobody, file, HF_HUB_OFFLINE="1")
    place = tmp_path / "cache" / "hf" / "owner" / "name@v1" / "vocab.txt"
    assert told[0][1].startswith(f"{file.split('@')[0]}@v1: not in the hub's cache, and HF_HUB")
    assert told[0][1].endswith(f"put vocab.txt to {place} yourself, or name a local path")
    place.parent.mkdir(parents=True)
    place.write_bytes(b"by hand")
    (tmp_path / "cache" / "hf" / "owner" / "name").mkdir()
    (tmp_path / "cache" / "hf" / "owner" / "name" / "config.json").write_bytes(b"{}")
    told = ask(tmp_path, nobody, file, whole)
    assert told == [[True, str(place)], [True, str(place.parents[1] / "name")]]


def test_a_hub_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    told = ask(tmp_path, f"http://127.0.0.1:{free_port()}", "hf://owner/name")
    assert "the hub does not answer" in told[0][1]
    assert "\n" not in told[0][1]
