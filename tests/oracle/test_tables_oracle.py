"""Tables of the detector program: read, kept in shards, and written again byte for byte."""

import json
from pathlib import Path

import pytest

from flows.commands.import_regions import ImportWishes, import_regions
from flows.commands.tables import export_regions
from storage.published.tsv import TsvReader, write_tsv
from storage.published.vinvl_predictions import parse_objects, prediction_text
from tests.locations import oracle_files

pytestmark = pytest.mark.oracle
RECORDED = oracle_files("detector", "*.tsv/predictions.tsv")
TABLES = [pytest.param(path, id=path.parent.name) for path in RECORDED] or [
    pytest.param(None, marks=pytest.mark.skip(reason="no oracle of the detector here"))
]


@pytest.mark.parametrize("recorded", TABLES)
def test_a_table_that_is_read_and_written_has_the_same_bytes(
    recorded: Path, tmp_path: Path
) -> None:
    rows = [(key, prediction_text(parse_objects(text, key))) for key, text in TsvReader(recorded)]
    write_tsv(tmp_path / "predictions.tsv", rows)
    for suffix in (".tsv", ".lineidx"):
        written = (tmp_path / "predictions.tsv").with_suffix(suffix)
        assert written.read_bytes() == recorded.with_suffix(suffix).read_bytes()


@pytest.mark.parametrize("recorded", TABLES)
def test_the_way_through_shards_keeps_all_but_the_names_of_spare_slots(
    recorded: Path, tmp_path: Path
) -> None:
    wishes = ImportWishes(namespace="photos", order="height_first")
    told, *_ = import_regions(recorded.parent, tmp_path / "in", wishes)
    assert told.endswith("+ 0 set aside")
    export_regions(str(tmp_path / "in" / "regions"), tmp_path / "out", layout="predictions")
    for written, row in zip(
        TsvReader(tmp_path / "out" / "predictions.tsv"), TsvReader(recorded), strict=True
    ):
        assert written == (row[0], _with_spare_slots_named(row[1]))


def _with_spare_slots_named(text: str) -> str:
    """The original names slots of score 0 after any attribute; ours after none."""
    content = json.loads(text)
    for each in content["objects"]:
        for slot, score in enumerate(each.get("attr_scores", ())):
            if score == 0:
                each["attributes"][slot] = "__no_attribute__"
    return json.dumps(content)
