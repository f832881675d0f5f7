"""Bad input from outside, through the real command line in a child process.

Either the command ends with one clear line and status 2, or the bad thing is counted and listed
in a quarantine while the rest goes on. Never a traceback; what was finished stays.
"""

import ctypes
import json
import resource
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from detector.checkpoints import LABELS_NAME, save_detector
from storage.published.label_maps import BACKGROUND, NO_ATTRIBUTE, LabelMap
from storage.quarantine import read_quarantine
from storage.records import Quarantined
from storage.region_shards import RegionReader
from tests.builders_detector import tiny_model
from tests.builders_flows import PYTHON
from tests.command_line import Said, environment
from tests.locations import data_dir, data_place

CLASSES = ("car", "dog", "tree", "zzz", "orange")
ATTRIBUTES = ("red", "blue", "orange", "big", "small", "striped", "plain", "wooden")
FINISHED = ("list_images", "collect_annotations", "detect", "translate_tags")
CAPTIONS: Mapping[str, Any] = {
    "images": [{"id": 1, "file_name": "000000000001.jpg", "height": 48, "width": 64}],
    "annotations": [{"id": 1, "image_id": 1, "caption": "a red car"}],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A folder with photos, annotations, an untrained detector and a configuration."""

    folder: Path

    def write(self, *sources: Mapping[str, Any], **changes: Any) -> None:
        """The configuration: one folder of photos, these sources, everything one by one.

        A section `train_detector` takes the place of the untrained detector: nothing but the
        listing can then go on without annotations, which saves time where they are refused.
        """
        config = {
            "detector_weights": "weights",
            "data": {"images": [{"path": "photos", "namespace": "coco"}], "sources": list(sources)},
            "resources": {"parallel": 1, "retries": 0},
            **changes,
        }
        if "train_detector" in changes:
            del config["detector_weights"]
        (self.folder / "run.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")

    def run(self, *command: str, before: Callable[[], None] | None = None) -> Said:
        """`oscar-flow run`, or another command; `before` happens in the child."""
        arguments = command or ("run", "run.yaml", "--no-prefect", "--out", "out")
        ended = subprocess.run(
            [PYTHON, "-W", "ignore", "-m", "flows", *arguments],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=environment(),
            timeout=200,
            preexec_fn=before,
        )
        return Said(status=ended.returncode, out=ended.stdout, err=ended.stderr)

    def step(self, name: str) -> Path:
        """The one folder of a step."""
        (folder,) = (self.folder / "out").glob(f"{name}-*")
        return folder

    def done(self, name: str) -> Mapping[str, Any]:
        """What a finished step told."""
        summary: Mapping[str, Any] = json.loads((self.step(name) / "DONE.json").read_text())
        return summary["summary"]

    def dropped(self, name: str) -> list[Quarantined]:
        return read_quarantine(self.step(name) / "quarantine.jsonl")


def lay(folder: Path, photos: tuple[int, ...] = (1,)) -> Ground:
    """A ground with small photos `coco/000000000001`, ..."""
    (folder / "photos").mkdir(parents=True)
    for number in photos:
        Image.new("RGB", (64, 48), (200, 20 * number % 256, 30)).save(
            folder / f"photos/{number:012d}.jpg"
        )
    label_map = LabelMap(
        class_names=(BACKGROUND, *CLASSES), attribute_names=(NO_ATTRIBUTE, *ATTRIBUTES)
    )
    save_detector(folder / "weights", tiny_model(), label_map)
    return Ground(folder=folder)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return lay(tmp_path)


def refused(said: Said, *parts: str) -> None:
    """One line, status 2, every part of it said."""
    assert said.status == 2, said
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1, said.err
    assert "Traceback" not in said.out + said.err
    for part in parts:
        assert part in said.err


def captions(path: str = "captions.json") -> dict[str, str]:
    return {"reader": "coco_captions", "path": path, "namespace": "coco", "split": "train"}


# ---- one run over everything that is set aside while the rest goes on


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to no pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


def draw_bad_photos(folder: Path) -> None:
    """One photo of each bad or odd kind; the name says which."""
    noise = Image.effect_noise((64, 48), 90)
    noise.convert("RGB").save(folder / "whole.jpg")
    whole = (folder / "whole.jpg").read_bytes()
    (folder / "bad_cut.jpg").write_bytes(whole[: len(whole) * 55 // 100])
    (folder / "bad_header.jpg").write_bytes(whole[:40])
    (folder / "bad_empty.jpg").touch()
    (folder / "bad_text.jpg").write_text("no photo at all")
    (folder / "bad_bomb.png").write_bytes(png_of_size(60_000, 60_000))
    (folder / "bad_20000.png").write_bytes(png_of_size(20_000, 20_000))
    (folder / "bad_link.jpg").symlink_to("nowhere.jpg")
    (folder / "bad_folder.jpg").mkdir()
    Image.new("RGB", (1, 1)).save(folder / "odd_1x1.png")
    Image.new("L", (20_000, 3)).save(folder / "odd_20000_wide.png")
    noise.convert("CMYK").save(folder / "odd_cmyk.jpg")
    noise.save(folder / "odd_grey.jpg")
    Image.new("I;16", (64, 48), 40_000).save(folder / "odd_16bit.png")
    noise.convert("P").save(folder / "odd_palette.png", transparency=3)
    noise.convert("RGBA").save(folder / "odd_alpha.png")
    noise.save(folder / "odd_animated.gif", save_all=True, append_images=[noise.rotate(90)] * 2)
    noise.convert("RGB").save(folder / "odd_named.jpg.png", "JPEG")
    turned = Image.Exif()
    turned[0x0112] = 6
    noise.convert("RGB").save(folder / "odd_exif.jpg", exif=turned)
    (folder / "deep 照片").mkdir()
    (folder / "deep 照片" / "odd 名字.jpg").write_bytes(whole)
    (folder / "whole.png").write_bytes(whole)  # the same id as whole.jpg


def odd_captions() -> dict[str, Any]:
    texts = ["a red car", "", "long " * 400, "   ", "a [SEP] dog\0", "whose photo?", None]
    rows = [{"id": at, "image_id": 1, "caption": text} for at, text in enumerate(texts)]
    rows[5]["image_id"] = 2  # in the file, not in the folder of photos
    rows.append({"id": 0, "image_id": 1, "caption": "a second one under the first's id"})
    rows.append({"id": 99, "image_id": 77, "caption": "in no list of images"})
    images = [
        {"id": number, "file_name": f"{number:012d}.jpg", "height": 48, "width": 64}
        for number in (1, 2, 1)
    ]
    return {"images": images, "annotations": rows}


HOSTILE_SOURCES: Mapping[str, Mapping[str, str]] = {
    "instances_bom.json": {"reader": "coco_instances"},
    "instances_duplicate_image_id.json": {"reader": "coco_instances"},
    "instances_duplicate_annotation_id.json": {"reader": "coco_instances"},
    "instances_dangling_image_id.json": {"reader": "coco_instances"},
    "instances_unknown_category.json": {"reader": "coco_instances"},
    "instances_bad_boxes.json": {"reader": "coco_instances"},
    "instances_nan.json": {"reader": "coco_instances"},
    "captions_odd_text.json": {"reader": "coco_captions"},
    "flickr8k_bad_utf8.token.txt": {"reader": "flickr_tokens"},
    "flickr8k_crlf_missing_tab.token.txt": {"reader": "flickr_tokens"},
    "nlvr2_one_broken_line.json": {"reader": "nlvr2"},
    "vqa_questions_mismatch.json": {
        "reader": "vqa_v2",
        "annotations": "hostile/annotations/vqa_annotations_mismatch.json",
    },
}
"""Files of which some rows are bad; each under its own namespace, so that they do not meet."""


def hostile_source(name: str) -> dict[str, str]:
    key = "questions" if name.startswith("vqa") else "path"
    namespace = name.partition(".")[0]
    return {key: f"hostile/annotations/{name}", "namespace": namespace, **HOSTILE_SOURCES[name]}


@pytest.fixture(scope="module")
def tolerant(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ground, Said]:
    """A run over every photo and annotation file of which at least a part can be used."""
    ground = lay(tmp_path_factory.mktemp("tolerant"))
    draw_bad_photos(ground.folder / "photos")
    (ground.folder / "odd.json").write_text(json.dumps(odd_captions()), encoding="utf-8")
    sources = [captions("odd.json")]
    hostile = data_place("hostile")
    if hostile.is_dir():
        shutil.copytree(hostile, ground.folder / "hostile")
        shutil.copytree(hostile / "images", ground.folder / "photos" / "hostile")
        sources += [hostile_source(name) for name in HOSTILE_SOURCES]
    ground.write(*sources)
    return ground, ground.run()


def reasons(ground: Ground, step: str) -> dict[str, str]:
    """Image id without its namespace -> why it was dropped."""
    return {each.image_id.removeprefix("coco/"): each.reason for each in ground.dropped(step)}


def test_a_run_over_bad_photos_and_rows_comes_to_its_end(tolerant: tuple[Ground, Said]) -> None:
    ground, said = tolerant
    assert said.status == 0, said.err
    assert said.err == ""
    assert "Traceback" not in said.out
    assert (ground.folder / "out" / "report.html").is_file()


@pytest.mark.parametrize("step", FINISHED)
def test_what_goes_in_comes_out_or_is_listed(tolerant: tuple[Ground, Said], step: str) -> None:
    ground, _ = tolerant
    told = ground.done(step)
    assert told["num_in"] == told["num_out"] + told["num_quarantined"]
    if step != "translate_tags":
        listed = ground.dropped(step)
        assert told["num_quarantined"] == len(listed) > 0
        assert all(each.reason and each.detail and "\n" not in each.detail for each in listed)


@pytest.mark.parametrize(
    ("photo", "reason"),
    [
        ("bad_cut", "truncated"),
        ("bad_header", "damaged-header"),
        ("bad_empty", "empty-file"),
        ("bad_text", "not-an-image"),
        ("bad_bomb", "too-many-pixels"),
        ("bad_20000", "too-many-pixels"),
        ("bad_link", "unreadable"),
    ],
)
def test_a_photo_that_cannot_be_used_is_listed(
    tolerant: tuple[Ground, Said], photo: str, reason: str
) -> None:
    assert reasons(tolerant[0], "detect")[photo] == reason


def test_two_photos_of_one_id_are_one_photo(tolerant: tuple[Ground, Said]) -> None:
    assert reasons(tolerant[0], "list_images")["whole"] == "duplicate-id"


def test_an_odd_photo_is_seen_like_any_other(tolerant: tuple[Ground, Said]) -> None:
    ground, _ = tolerant
    photos = ground.folder / "photos"
    odd = {
        path.relative_to(photos).with_suffix("").as_posix(): path
        for path in photos.rglob("odd*")
        if "hostile" not in path.parts
    }
    assert len(odd) >= 11
    seen = RegionReader(ground.step("detect") / "regions")
    assert {f"coco/{name}" for name in odd} <= set(seen)
    for name, path in odd.items():
        with Image.open(path) as picture:
            regions = seen[f"coco/{name}"]
            assert (regions.width, regions.height) == picture.size


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("annotation 1:", "empty-text"),
        ("annotation 3:", "empty-text"),
        ("caption 2:", "text-cut"),
        ("annotation 6:", "bad-row"),
        ("annotation 0:", "duplicate-id"),
        ("image 1:", "duplicate-id"),
        ("annotation 99:", "unknown-image"),
        ("photo 'coco/000000000002'", "no-such-image"),
    ],
)
def test_a_caption_that_cannot_be_used_is_listed(
    tolerant: tuple[Ground, Said], text: str, reason: str
) -> None:
    listed = tolerant[0].dropped("collect_annotations")
    assert reason in {
        each.reason
        for each in listed
        if text in each.detail and each.detail.startswith(("odd.json", "coco_captions"))
    }


def test_no_caption_is_longer_than_the_limit_and_none_is_empty(
    tolerant: tuple[Ground, Said],
) -> None:
    from storage.annotation_shards import read_annotations

    kept = read_annotations(tolerant[0].step("collect_annotations") / "annotations").captions
    assert next(each.text for each in kept if each.image_id == "coco/000000000001") == "a red car"
    assert all(0 < len(each.text) <= 1000 for each in kept)


@pytest.mark.parametrize(
    "photo",
    [
        "truncated",
        "truncated_header",
        "zero_byte",
        "text_renamed",
        "html_error_page",
        "bomb_header",
        "bomb_real",
        "bad_crc",
    ],
)
def test_each_hostile_photo_that_must_be_refused_is_listed(
    tolerant: tuple[Ground, Said], photo: str
) -> None:
    data_dir("hostile")
    assert reasons(tolerant[0], "detect")[f"hostile/{photo}"]


def test_every_hostile_photo_is_seen_or_listed_once(tolerant: tuple[Ground, Said]) -> None:
    root = data_dir("hostile", "images")
    names = {
        f"coco/hostile/{path.relative_to(root).with_suffix('').as_posix()}"
        for path in root.rglob("*")
        if path.is_file()
    }
    ground, _ = tolerant
    seen = names & set(RegionReader(ground.step("detect") / "regions"))
    listed = [each.image_id for each in ground.dropped("detect") if each.image_id in names]
    assert len(names) == 21
    assert len(listed) == len(set(listed))
    assert set(listed) | seen == names
    assert not set(listed) & seen


@pytest.mark.parametrize("name", [name for name in HOSTILE_SOURCES if "bom" not in name])
def test_the_bad_rows_of_each_hostile_file_are_listed(
    tolerant: tuple[Ground, Said], name: str
) -> None:
    data_dir("hostile", "annotations", name)
    listed = tolerant[0].dropped("collect_annotations")
    assert any(each.detail.startswith(f"{name}:") for each in listed)


# ---- what stops a run: one line, and what was finished stays


@pytest.mark.parametrize(
    ("reader", "name", "content", "said"),
    [
        (
            "coco_captions",
            "c.json",
            json.dumps(CAPTIONS).encode()[:90],
            "not JSON at byte 84 of 90",
        ),
        ("coco_captions", "c.json", b"", "the file is empty"),
        ("coco_captions", "c.json", json.dumps(CAPTIONS).encode("utf-16"), "is not UTF-8"),
        ("coco_captions", "c.json", b"[1, 2]", "a JSON object was expected"),
        ("flickr8k_cn", "c.txt", "1.jpg#zhc#0 一辆汽车\n".encode("gbk"), "GBK"),
    ],
)
def test_an_annotation_file_that_cannot_be_read_at_all_is_one_line(
    ground: Ground, reader: str, name: str, content: bytes, said: str
) -> None:
    (ground.folder / name).write_bytes(content)
    ground.write({"reader": reader, "path": name}, train_detector={})
    refused(ground.run(), "collect_annotations: ", f"{name}: ", said)


@pytest.mark.parametrize(
    ("reader", "name"),
    [
        ("coco_instances", "instances_cut_in_half.json"),
        ("coco_instances", "instances_empty.json"),
        ("flickr8k_cn", "flickr8kzhc_gbk.caption.txt"),
    ],
)
def test_each_hostile_file_that_must_be_refused_is_one_line(
    ground: Ground, reader: str, name: str
) -> None:
    shutil.copy(data_dir("hostile", "annotations", name), ground.folder)
    ground.write({"reader": reader, "path": name}, train_detector={})
    refused(ground.run(), name)


def test_finished_work_stays_and_a_mended_file_lets_the_run_go_on(ground: Ground) -> None:
    path = ground.folder / "captions.json"
    path.write_text(json.dumps(CAPTIONS)[:-20])
    ground.write(captions())
    refused(ground.run(), "captions.json")
    mark = ground.step("list_images") / "DONE.json"
    before = mark.stat().st_mtime_ns
    path.write_text(json.dumps(CAPTIONS))
    said = ground.run()
    assert said.status == 0, said.err
    assert "list_images          already done" in said.out
    assert mark.stat().st_mtime_ns == before
    assert len(list((ground.folder / "out").glob("collect_annotations-*/DONE.json"))) == 1


def test_an_empty_folder_of_photos_is_one_line(ground: Ground) -> None:
    shutil.rmtree(ground.folder / "photos")
    (ground.folder / "photos").mkdir()
    (ground.folder / "photos" / "notes.txt").write_text("nothing here")
    ground.write()
    refused(ground.run(), "no photo found", "photos")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere", "no such file or folder"),
        ("run.yaml", "no key 'img'"),
        ("names.txt", "no photo found"),  # a list, of things that are none
        ("x" * 300, "name too long"),
        ("ring", "no such file or folder"),
    ],
)
def test_a_folder_of_photos_that_is_none_is_one_line(ground: Ground, path: str, said: str) -> None:
    (ground.folder / "ring").symlink_to("ring")
    (ground.folder / "names.txt").write_text("nothing\nhere\n")
    ground.write(data={"images": [{"path": path}]})
    refused(ground.run(), path, said)


def _without_root_rights() -> None:
    """Make a process of root obey the permissions of files; happens in the child."""
    drop, override, search = 24, 1, 2  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    library = ctypes.CDLL(None)
    library.prctl(drop, override, 0, 0, 0)
    library.prctl(drop, search, 0, 0, 0)


def _can_be_closed(folder: Path) -> bool:
    """Whether a folder without permissions is closed to such a child."""
    ended = subprocess.run(
        ["/bin/ls", folder], capture_output=True, preexec_fn=_without_root_rights
    )
    return ended.returncode != 0


@pytest.fixture
def closed(ground: Ground) -> Any:
    """A folder inside the photos that nobody may read."""
    folder = ground.folder / "photos" / "closed"
    folder.mkdir()
    shutil.copy(ground.folder / "photos/000000000001.jpg", folder / "inside.jpg")
    folder.chmod(0)
    if not _can_be_closed(folder):
        folder.chmod(0o700)
        pytest.skip("this process may read everything, whatever the permissions")
    yield folder
    folder.chmod(0o700)


def test_a_closed_folder_inside_is_listed_and_the_rest_is_found(
    ground: Ground, closed: Path
) -> None:
    (ground.folder / "captions.json").write_text("{")
    ground.write(captions(), train_detector={})
    said = ground.run(before=_without_root_rights)
    refused(said, "captions.json")  # so that the run ends after the listing
    (listed,) = ground.dropped("list_images")
    assert listed.reason == "unreadable-folder"
    assert str(closed.name) in listed.detail
    assert ground.done("list_images")["num_out"] == 1


def test_a_closed_folder_of_photos_is_one_line(ground: Ground, closed: Path) -> None:
    ground.write(data={"images": [{"path": "photos/closed"}]})
    refused(ground.run(before=_without_root_rights), "closed", "ermission denied")


def test_a_label_map_with_gaps_is_one_line(ground: Ground) -> None:
    shutil.copy(
        data_dir("hostile", "annotations", "labelmap_gap.json"),
        ground.folder / "weights" / LABELS_NAME,
    )
    ground.write()
    refused(ground.run(), "detect: ", LABELS_NAME)


def test_a_bad_dictionary_is_one_line(ground: Ground) -> None:
    name = "label_dictionary_bad.json"
    shutil.copy(data_dir("hostile", "annotations", name), ground.folder)
    (ground.folder / "labels.txt").write_text("car\n")
    said = ground.run("translate", "labels.txt", "--dictionary", name)
    refused(said, name, "4 bad entries")


def _no_file_above(num_bytes: int) -> Callable[[], None]:
    """What a full disk is to a program: writes end with an error of the system."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def test_a_full_disk_is_one_line_and_finished_work_stays(ground: Ground) -> None:
    rows = [
        {"id": at, "image_id": 1, "caption": f"{at * 7919 % 10_007} cars {at}"}
        for at in range(4000)
    ]
    (ground.folder / "captions.json").write_text(json.dumps({**CAPTIONS, "annotations": rows}))
    ground.write(captions(), train_detector={})
    said = ground.run(before=_no_file_above(16_000))
    refused(said, "collect_annotations", "no space left to write", "finished work is kept")
    assert (ground.step("list_images") / "DONE.json").is_file()
    assert not (ground.step("collect_annotations") / "DONE.json").exists()
    assert not list((ground.folder / "out").rglob("*.partial"))
    planned = ground.run("plan", "run.yaml", "--out", "out")
    told = {line.split()[0]: line for line in planned.out.splitlines() if line.strip()}
    assert "done" in told["list_images"]
    assert "goes on where it stopped" in told["collect_annotations"]
