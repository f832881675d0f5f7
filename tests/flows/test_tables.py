"""`oscar-flow export-regions` and `import-regions`: what they say, refuse and leave behind."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.commands.import_regions import ImportWishes, import_regions
from flows.commands.tables import export_regions
from flows.errors import FlowError
from oscar_core.regions import region_inputs
from storage.errors import RecordError
from storage.published.label_maps import read_label_map, write_label_map
from storage.published.tsv import TsvReader
from storage.published.vinvl_regions import FeatureTable
from storage.quarantine import read_quarantine
from storage.records import HEIGHT_FIRST, INCLUDED, WIDTH_FIRST
from storage.region_shards import RegionReader
from tests.builders_storage import same, write_regions
from tests.builders_tables import LABEL_MAP, some_regions
from tests.command_line import environment, oscar


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    write_regions(tmp_path / "shards", some_regions(4), geometry=HEIGHT_FIRST)
    return tmp_path / "shards"


@pytest.mark.parametrize("order", [None, "width_first", "height_first"])
def test_features_end_with_the_box_numbers_of_the_shards_or_as_asked(
    shards: Path, tmp_path: Path, order: str | None
) -> None:
    export_regions(str(shards), tmp_path / "out", layout="vinvl", order=order)
    table = FeatureTable(tmp_path / "out")
    for number, regions in enumerate(some_regions(4)):
        wanted = region_inputs(regions, order or HEIGHT_FIRST)
        assert np.array_equal(table.read(number, f"{number + 1}"), wanted)


def test_shards_come_back_equal(shards: Path, tmp_path: Path) -> None:
    write_label_map(tmp_path / "labelmap.json", LABEL_MAP)
    export_regions(str(shards), tmp_path / "out", layout="vinvl")
    wishes = ImportWishes(
        namespace="coco",
        splits_boxes=True,
        dtype="float16",
        label_map=tmp_path / "labelmap.json",
    )
    lines = import_regions(tmp_path / "out", tmp_path / "in", wishes)
    assert lines[0] == "4 images in = 4 written + 0 set aside"
    back = RegionReader(tmp_path / "in" / "regions")
    assert (back.geometry, back.feature_width) == (HEIGHT_FIRST, 8)
    assert all(map(same, back.in_order(), some_regions(4)))
    assert read_quarantine(tmp_path / "in" / "quarantine.jsonl") == []


def test_published_features_stay_bit_for_bit_unless_asked(shards: Path, tmp_path: Path) -> None:
    export_regions(str(shards), tmp_path / "out", layout="vinvl")
    import_regions(tmp_path / "out", tmp_path / "in", ImportWishes())
    back = RegionReader(tmp_path / "in" / "regions")
    assert (back.geometry, back.feature_width) == (INCLUDED, 14)
    again = export_regions(str(tmp_path / "in" / "regions"), tmp_path / "again", layout="vinvl")
    assert again[0] == "4 images, features of 8 + 6 numbers, included"
    for name in ("features.tsv", "predictions.tsv", "label.tsv", "features.lineidx"):
        first, second = (tmp_path / place / name for place in ("out", "again"))
        assert first.read_bytes() == second.read_bytes()
    names = read_label_map(tmp_path / "in" / "labelmap.json")
    assert set(names.class_names) <= set(LABEL_MAP.class_names)


def test_what_is_damaged_is_counted_and_told(shards: Path, tmp_path: Path) -> None:
    export_regions(str(shards), tmp_path / "out", layout="vinvl")
    table = tmp_path / "out" / "features.tsv"
    rows = [list(row) for row in TsvReader(table)]
    rows[2][-1] = rows[2][-1][:-8]
    table.write_text("".join("\t".join(row) + "\n" for row in rows))
    table.with_suffix(".lineidx").unlink()
    lines = import_regions(tmp_path / "out", tmp_path / "in", ImportWishes(namespace="coco"))
    assert lines[0] == "4 images in = 3 written + 1 set aside"
    assert "set aside, damaged-features: 1" in lines
    (dropped,) = read_quarantine(tmp_path / "in" / "quarantine.jsonl")
    assert dropped.image_id == "coco/3"
    assert list(RegionReader(tmp_path / "in" / "regions")) == ["coco/1", "coco/2", "coco/4"]


def test_a_feature_beyond_float16_is_set_aside(tmp_path: Path) -> None:
    first, second = some_regions(2)
    wide = replace(second, features=np.full(second.features.shape, 1e5, np.float32))
    write_regions(tmp_path / "shards", [first, wide], dtype="float32")
    export_regions(str(tmp_path / "shards"), tmp_path / "out", layout="vinvl")
    told = import_regions(tmp_path / "out", tmp_path / "in", ImportWishes(dtype="float16"))
    assert told[0] == "2 images in = 1 written + 1 set aside"


def test_two_images_of_one_name_need_their_whole_ids(tmp_path: Path) -> None:
    first, _ = some_regions(2)
    records = [first, replace(first, image_id="gqa/1")]
    write_regions(tmp_path / "shards", records)
    with pytest.raises(RecordError, match=r"two images have the key '1'; .* --keys id"):
        export_regions(str(tmp_path / "shards"), tmp_path / "out", layout="vinvl")
    export_regions(str(tmp_path / "shards"), tmp_path / "out", layout="vinvl", keys="id")
    import_regions(tmp_path / "out", tmp_path / "in", ImportWishes())
    assert list(RegionReader(tmp_path / "in" / "regions")) == ["coco/1", "gqa/1"]


def test_the_order_of_box_numbers_is_known_or_asked_for(shards: Path, tmp_path: Path) -> None:
    export_regions(str(shards), tmp_path / "out", layout="predictions")
    lines = import_regions(tmp_path / "out", tmp_path / "assumed", ImportWishes())
    assert RegionReader(tmp_path / "assumed" / "regions").geometry == WIDTH_FIRST
    assert any("width_first, as nobody said; else --order height_first" in line for line in lines)
    with pytest.raises(FlowError, match="do not end with the numbers of their boxes"):
        import_regions(tmp_path / "out", tmp_path / "in", ImportWishes(splits_boxes=True))
    lines = import_regions(tmp_path / "out", tmp_path / "in", ImportWishes(order="height_first"))
    assert RegionReader(tmp_path / "in" / "regions").geometry == HEIGHT_FIRST
    assert not any("--order" in line for line in lines)
    export_regions(str(shards), tmp_path / "vinvl", layout="vinvl")
    with pytest.raises(FlowError, match="are in the order height_first"):
        import_regions(tmp_path / "vinvl", tmp_path / "in2", ImportWishes(order="width_first"))
    import_regions(tmp_path / "vinvl", tmp_path / "in2", ImportWishes())
    with pytest.raises(FlowError, match="hold their box numbers already"):
        export_regions(
            str(tmp_path / "in2" / "regions"), tmp_path / "x", layout="vinvl", order="width_first"
        )


def test_both_commands(
    shards: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, taken = str(tmp_path / "out"), str(tmp_path / "in")
    said = oscar(capsys, monkeypatch, "export-regions", str(shards), out, "--layout", "captioning")
    assert said.status == 0, said.err
    assert said.out.splitlines()[0] == "4 images, features of 8 + 6 numbers, height_first"
    said = oscar(capsys, monkeypatch, "import-regions", out, taken, "--split")
    assert (said.status, said.err) == (0, "")
    assert said.out.splitlines()[1] == "features 8 wide, height_first, float32"
    said = oscar(capsys, monkeypatch, "import-regions", out, taken)
    assert said.status == 2
    assert said.err.startswith(f"error: {taken}: holds another import, of other tables or with ")
    said = oscar(capsys, monkeypatch, "import-regions", out, str(shards))
    assert said.err == f"error: {shards}: is there already; name a folder that is not\n"
    said = oscar(capsys, monkeypatch, "import-regions", str(tmp_path / "nowhere"), out + "2")
    assert (said.status, said.err) == (2, f"error: {tmp_path / 'nowhere'}: no folder there\n")
    said = oscar(capsys, monkeypatch, "export-regions", str(tmp_path / "nowhere"), out + "2")
    assert said.status == 2
    assert said.err == (
        f"error: {tmp_path / 'nowhere'}: no run and no finished folder of region shards\n"
    )
    said = oscar(capsys, monkeypatch, "export-regions", taken, out + "2")  # what was taken in
    assert said.status == 0, said.err


KILLED = """
import os, signal, sys
from pathlib import Path
from flows.commands import import_regions as module

write, num = module.write_slice, 0

def write_two(*arguments):
    global num
    if num == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    num += 1
    return write(*arguments)

module.write_slice = write_two
tables, out = map(Path, sys.argv[1:])
module.import_regions(tables, out, module.ImportWishes(digits=12), rows_per_shard=3)
"""


def with_damage(folder: Path, key: str) -> None:
    """Cut the features of one image, as a broken download would."""
    table = folder / "features.tsv"
    rows = [list(row) for row in TsvReader(table)]
    for row in rows:
        row[-1] = row[-1][:-8] if row[0] == key else row[-1]
    table.write_text("".join("\t".join(row) + "\n" for row in rows))
    table.with_suffix(".lineidx").unlink()


def test_a_killed_import_goes_on_behind_its_whole_shards(tmp_path: Path) -> None:
    tables, out, whole = (tmp_path / name for name in ("tables", "killed", "whole"))
    write_regions(tmp_path / "shards", some_regions(11))
    export_regions(str(tmp_path / "shards"), tables, layout="vinvl")
    with_damage(tables, "2")
    wishes = ImportWishes(digits=12)
    lines = import_regions(tables, whole, wishes, rows_per_shard=3)
    assert lines[0] == "11 images in = 10 written + 1 set aside"
    command = [sys.executable, "-c", KILLED, str(tables), str(out)]
    assert subprocess.run(command, env=environment(), check=False).returncode == -signal.SIGKILL
    shards = sorted((out / "regions").glob("*.parquet"))
    before = {path.name: path.stat().st_mtime_ns for path in shards}
    assert len(before) == 2
    with pytest.raises(FlowError, match="another import, of other tables or with other options"):
        import_regions(tables, out, ImportWishes(digits=11), rows_per_shard=3)
    again = import_regions(tables, out, wishes, rows_per_shard=3)
    assert again[0] == lines[0]
    assert {name: (out / "regions" / name).stat().st_mtime_ns for name in before} == before
    for name in ("regions", "."):
        assert bytes_of_files(out / name) == bytes_of_files(whole / name)
    assert "coco/000000000011" not in RegionReader(out / "regions")  # no namespace was asked for
    assert list(RegionReader(out / "regions"))[:2] == ["000000000001", "000000000003"]


def test_the_same_import_makes_a_damaged_shard_anew(shards: Path, tmp_path: Path) -> None:
    tables, out = tmp_path / "tables", tmp_path / "in"
    export_regions(str(shards), tables, layout="vinvl")
    lines = import_regions(tables, out, ImportWishes(), rows_per_shard=2)
    before = bytes_of_files(out / "regions")
    damaged = out / "regions" / "regions-00001.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert import_regions(tables, out, ImportWishes(), rows_per_shard=2) == lines
    assert bytes_of_files(out / "regions") == before


def bytes_of_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_two_keys_of_one_number_are_one_image(tmp_path: Path) -> None:
    first, second = some_regions(2)
    records = [first, replace(second, image_id="coco/01")]
    write_regions(tmp_path / "shards", records)
    export_regions(str(tmp_path / "shards"), tmp_path / "tables", layout="vinvl")
    lines = import_regions(tmp_path / "tables", tmp_path / "in", ImportWishes(digits=3))
    assert "set aside, duplicate-id: 1" in lines
    (dropped,) = read_quarantine(tmp_path / "in" / "quarantine.jsonl")
    assert dropped.image_id == "001"
