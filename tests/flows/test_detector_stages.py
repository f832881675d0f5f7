"""The detector's stages on a few small pictures, as the runner calls them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from detector.checkpoints import save_detector
from detector.errors import DetectorConfigError, DetectorError
from detector.model import AttributeRCNN
from detector.training.config import DetectorTraining
from flows.child_request import can_shrink
from flows.identity import config_as_json
from flows.photos import write_photos
from flows.stages import detect, score_detector, train_detector
from storage.annotation_shards import write_annotations
from storage.errors import StorageError
from storage.published.label_maps import label_map_of
from storage.quarantine import read_quarantine
from storage.records import Annotations
from storage.region_shards import RegionReader
from tests.builders_detector import tiny_config
from tests.builders_extraction import Ground
from tests.builders_scenes import block_photos

TINY = {
    "norm": "batch",
    "blocks": (1, 1, 1),
    "stem_width": 4,
    "res2_width": 8,
    "width_per_group": 4,
    "anchor_sizes": (14, 28),
    "post_nms_top_n": 8,
    "min_size": 48,
    "max_size": 64,
    "regions": {"min_regions": 3, "max_regions": 5},
}
TRAINING = DetectorTraining(num_steps=2, images_per_step=2, frozen_stages=0, checkpoint_every=1)


class Run:
    """Three photos for training and three for the test, one of them damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.roots = {"0": folder / "photos"}
        sources, objects = block_photos(self.roots["0"], 3)
        more, unseen = block_photos(self.roots["0"], 3, split="test", seed=1)
        more[1].path.write_bytes(b"no photo")
        write_photos(folder, {"0": [*sources, *more]}, self.roots)
        write_annotations(folder / "annotations", Annotations(objects=(*objects, *unseen)))

    def train(
        self,
        name: str = "training",
        config: train_detector.Config | None = None,
        **settings: object,
    ) -> train_detector.Summary:
        usual = train_detector.Config(preset="demo", overrides=TINY, training=TRAINING)
        config = config or usual
        place = self.folder / name
        return train_detector.run(
            replace(config, **settings),
            train_detector.Inputs(
                images=self.folder, photos=self.roots, annotations=self.folder / "annotations"
            ),
            train_detector.Outputs(detector=place / "detector", losses=place / "losses.jsonl"),
        )

    def detect(self, name: str = "seeing", **settings: object) -> detect.Summary:
        return detect.run(
            replace(detect.Config(batch_size=2, rows_per_shard=2), **settings),
            detect.Inputs(
                images=self.folder,
                photos=self.roots,
                detector=self.folder / "training" / "detector",
            ),
            detect.Outputs(regions=self.folder / name / "regions"),
        )

    def score(self, **settings: object) -> score_detector.Summary:
        families = {"colour": ("red", "blue")}
        return score_detector.run(
            replace(score_detector.Config(families=families), **settings),
            score_detector.Inputs(
                regions=self.folder / "seeing" / "regions",
                annotations=self.folder / "annotations",
                images=self.folder,
                photos=self.roots,
                detector=self.folder / "training" / "detector",
            ),
            score_detector.Outputs(scores=self.folder / "scores.json"),
        )


def test_from_boxes_to_scores(tmp_path: Path) -> None:
    run = Run(tmp_path)
    trained = run.train()
    assert (trained.num_in, trained.num_out, trained.num_quarantined) == (3, 3, 0)
    assert len((tmp_path / "training/losses.jsonl").read_text().splitlines()) == 2
    seen = run.detect()
    assert (seen.num_in, seen.num_out, seen.num_quarantined) == (6, 5, 1)
    reader = RegionReader(tmp_path / "seeing/regions")
    assert len(reader) == 5
    assert seen.num_regions == sum(len(found.class_ids) for found in reader.in_order())
    assert all(3 <= len(found.class_ids) <= 5 for found in reader.in_order())
    dropped = read_quarantine(tmp_path / "seeing/quarantine.jsonl")
    assert [entry.image_id for entry in dropped] == ["blocks/test-1"]
    scored = run.score()
    assert (scored.num_in, scored.num_out, scored.num_quarantined) == (3, 2, 1)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["values"].keys() == {
        "ap50", "map", "recall_100", "attribute_accuracy", "colour_accuracy", "matched",
    }  # fmt: skip
    assert scores["versions"].keys() == {"pycocotools"}
    run.score(visual_genome=True)
    more = json.loads((tmp_path / "scores.json").read_text())["values"]
    assert more.keys() - scores["values"].keys() == {
        "vg_map50", "vg_weighted_map50", "vg_attribute_map50", "vg_attribute_weighted_map50",
    }  # fmt: skip


def test_a_training_whose_list_could_not_be_written_is_not_lost(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.train("whole")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    (broken / "quarantine.jsonl").mkdir(parents=True)  # stands for a full disk
    with pytest.raises(IsADirectoryError):
        run.train("broken")
    weights = broken / "detector/detector.safetensors"
    written = weights.stat().st_mtime_ns
    (broken / "quarantine.jsonl").rmdir()
    assert run.train("broken").num_steps == 2
    assert weights.stat().st_mtime_ns == written
    names = sorted(each.relative_to(whole) for each in whole.rglob("*") if each.is_file())
    assert names == sorted(each.relative_to(broken) for each in broken.rglob("*") if each.is_file())
    for name in names:
        assert (whole / name).read_bytes() == (broken / name).read_bytes(), name


def test_seeing_goes_on_after_the_last_whole_shard(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.train()
    run.detect("whole")
    run.detect("cut")
    whole, cut = tmp_path / "whole/regions", tmp_path / "cut/regions"
    shards = sorted(path.name for path in cut.glob("*.parquet"))
    assert len(shards) == 3
    (cut / "manifest.json").unlink()
    (cut / shards[2]).unlink()
    (cut / shards[1]).write_bytes((cut / shards[1]).read_bytes()[:100])
    first = (cut / shards[0]).stat().st_mtime_ns
    again = run.detect("cut")
    assert (cut / shards[0]).stat().st_mtime_ns == first
    assert (again.num_in, again.num_out, again.num_quarantined) == (6, 5, 1)
    for name in [*shards, "manifest.json"]:
        assert (whole / name).read_bytes() == (cut / name).read_bytes(), name


def test_photos_of_which_none_can_be_used_are_no_success(tmp_path: Path) -> None:
    ground = Ground(tmp_path, 3, damaged=None)
    for source in ground.sources:
        source.path.write_bytes(b"no photo")
    with pytest.raises(StorageError) as refused:
        ground.extract("seeing")
    aside = tmp_path / "seeing" / "quarantine.jsonl"
    dropped = read_quarantine(aside)
    assert len(dropped) == 3
    assert str(refused.value) == (
        f"no photo could be used: {dropped[0].detail}; 3 set aside, see {aside}"
    )
    assert not (tmp_path / "seeing" / "regions" / "manifest.json").exists()


def test_a_detector_without_names_is_refused_before_it_sees(tmp_path: Path) -> None:
    run = Run(tmp_path)
    model = AttributeRCNN(tiny_config())
    numbered = label_map_of(map(str, range(1, 6)), map(str, range(1, 9)))
    save_detector(tmp_path / "training/detector", model, numbered)
    with pytest.raises(DetectorError, match=r"training/detector: .*no names.* --labelmap FILE"):
        run.detect()
    assert not (tmp_path / "seeing").exists()


def test_less_memory_is_the_same_batch_in_parts() -> None:
    still = {"norm": "frozen"}
    config = train_detector.Config(
        preset="demo", overrides=still, training=replace(TRAINING, images_per_step=6)
    )
    smaller = [train_detector.shrunk(config, times) for times in (1, 2, 3, 9)]
    assert [getattr(each, "parts", 1) for each in smaller] == [2, 4, 6, 6]
    assert all(each.training == config.training for each in smaller)
    assert "parts" not in config_as_json(config)
    assert can_shrink(train_detector, config, 2)
    assert not can_shrink(train_detector, config, 3)


def test_a_batch_that_cannot_be_cut_stays_as_it_is() -> None:
    one = replace(TRAINING, images_per_step=1)
    for config in (
        train_detector.Config(preset="demo", training=TRAINING),  # live statistics
        train_detector.Config(preset="lite0", training=one),
    ):
        assert train_detector.shrunk(config, 3) == config
        assert not can_shrink(train_detector, config)


def test_the_stage_trains_in_parts(tmp_path: Path) -> None:
    run, still = Run(tmp_path), {**TINY, "norm": "frozen"}
    run.train("whole", overrides=still)
    config = train_detector.Config(preset="demo", overrides=still, training=TRAINING)
    run.train("cut", config=train_detector.shrunk(config, 1))
    whole, cut = (
        [json.loads(line) for line in (tmp_path / name / "losses.jsonl").read_text().splitlines()]
        for name in ("whole", "cut")
    )
    assert [row["total"] for row in cut] == pytest.approx([row["total"] for row in whole], rel=1e-4)
    live = train_detector.CutConfig(preset="demo", overrides=TINY, training=TRAINING, parts=2)
    with pytest.raises(DetectorError, match="live statistics"):  # so the parts do arrive
        run.train("live", config=live)


def test_a_training_starts_from_another_detector(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.train().drawn_anew == ""
    again = run.train("again", start=tmp_path / "training" / "detector")
    assert (again.drawn_anew, again.left_out) == ("", "")
    first, second = (
        [json.loads(line) for line in (tmp_path / name / "losses.jsonl").read_text().splitlines()]
        for name in ("training", "again")
    )
    assert first[0]["total"] != second[0]["total"]
    with pytest.raises(DetectorConfigError, match="start says where the weights come from"):
        train_detector.Config(preset="lite0", pretrained=True, start=tmp_path)


def test_of_several_processes_one_trains_with_live_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    run = Run(tmp_path)
    assert run.train().num_steps == 2
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert run.train("other").num_steps == 0
    assert not (tmp_path / "other").exists()


def test_training_that_was_done_but_not_marked_gives_the_same_detector(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.train()
    weights = (tmp_path / "training/detector/detector.safetensors").read_bytes()
    run.train()
    assert (tmp_path / "training/detector/detector.safetensors").read_bytes() == weights


def test_overrides_lie_over_the_preset_even_inside_its_sections() -> None:
    network = train_detector.Config(preset="demo", overrides=TINY).network()
    assert network.regions.max_regions == 5
    assert network.regions.regress_boxes
    assert network.pooled_size == 7


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"preset": "dome"}, "no detector preset 'dome'; there are x152c4"),
        (
            {"overrides": {"min_sise": 3}},
            "overrides.min_sise: unknown key; did you mean 'min_size'",
        ),
        ({"overrides": {"regions": {"filtr": 1}}}, "overrides.regions.filtr: .*mean 'filter'"),
        ({"overrides": {"stem_width": "wide"}}, "overrides.stem_width: Input should be a valid"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused_at_once(
    settings: dict[str, object], said: str
) -> None:
    with pytest.raises(DetectorConfigError, match=said):
        train_detector.Config(**settings)
