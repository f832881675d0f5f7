"""The page: it says what the run says, text from outside is harmless, it stands alone."""

import json
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from flows.attempts import Attempt, add_attempt
from flows.report.collect import Wishes, collect
from flows.report.records import RunReport
from flows.report.render import render, write_page
from flows.run_folder import RunFolder
from flows.stages import report
from storage.artifacts import atomic_write_json
from storage.quarantine import QUARANTINE_NAME, write_quarantine
from storage.records import Quarantined
from tests.builders_report import FINGERPRINT, MadeRun, copied, make_photos, write_rows

HOSTILE = "</style><script>alert('x')</script><img src=x onerror=alert(1)>&quot;\"'"
MAX_BYTES = 15_000_000
KILLED = Attempt(
    step="pretrain",
    fingerprint=FINGERPRINT,
    number=1,
    began="2026-11-26T02:00:00Z",
    seconds=12.0,
    outcome="killed",
    status=-9,
    message="killed by somebody",
)


class Seen(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.ids: set[str] = set()
        self.text = ""
        self._hidden = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids |= {value or "" for name, value in attrs if name == "id"}
        self._hidden = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += data


def collected(made: MadeRun, title: str = "demo") -> RunReport:
    return collect(made.steps, made.photos, made.truth, Wishes(title=title))


def test_the_stage_writes_page_and_metrics(made: MadeRun, tmp_path: Path) -> None:
    place = tmp_path / "demo" / "report-x"
    place.mkdir(parents=True)
    summary = report.run(
        report.Config(),
        report.Inputs(steps=made.steps, photos=made.photos, truth=made.truth),
        report.Outputs(report=place / "report.html", metrics=place / "metrics.json"),
    )
    page = (place / "report.html").read_text(encoding="utf-8")
    assert summary.num_bytes == len(page.encode()) < MAX_BYTES
    assert "<h1>demo</h1>" in page, "without a title the run folder's name stands at the head"
    assert (place / "metrics.json").is_file()


def test_every_number_at_the_head_is_the_metric(made: MadeRun, tmp_path: Path) -> None:
    found = collected(made)
    before = Seen(render(found)).text
    assert "3.57" in before
    made = copied(made, tmp_path / "demo")
    scores = {"cider": 7.77, "cider_shuffled": 6.66, "cider_features_shuffled": 5.55}
    place = made.steps["captioning_score"] / "scores.json"
    atomic_write_json(place, {"values": scores, "versions": {}})
    after = Seen(render(collected(made))).text
    assert all(told in after for told in ("7.77", "6.66", "5.55", "1.11 above its best control"))
    assert "3.57" not in after


def test_hostile_text_stays_text(made: MadeRun, tmp_path: Path) -> None:
    made = copied(made, tmp_path / "demo")
    for step in ("captioning_predict", "retrieval_predict", "vqa_predict"):
        path = made.steps[step] / "predictions" / "right.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        words = dict.fromkeys(("caption", "text", "question", "answer", "question_type"), HOSTILE)
        write_rows(path, ({**row, **words} for row in rows))
    dropped = [Quarantined(image_id=HOSTILE, reason=HOSTILE, detail=f"{HOSTILE}\udc80")]
    write_quarantine(made.steps["detect"] / QUARANTINE_NAME, dropped)
    coverage = {
        "share": 0.5,
        "rows": [{"kind": HOSTILE, "source": HOSTILE, "num_words": 1, "examples": [HOSTILE]}],
        "missing": [{"english": HOSTILE}],
    }
    atomic_write_json(made.steps["translate_tags"] / "coverage.json", coverage)
    (made.folder / "config.yaml").write_text(f"title: {HOSTILE}\n", encoding="utf-8")
    losses = made.steps["pretrain"] / "losses.jsonl"
    losses.write_text('{"step": 1, "total": 1, "\\"><script>": 2}\n{"step": 2, "total": 0.5}\n')
    add_attempt(RunFolder(made.folder), replace(KILLED, message=HOSTILE))
    add_attempt(RunFolder(made.folder), replace(KILLED, number=2, outcome=HOSTILE))
    found = collected(made, title=HOSTILE)
    write_page(tmp_path / "report.html", found)
    page = Seen((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.tags["script"] == 0
    assert page.tags["style"] == 1
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.text.count("alert('x')") >= 10, "everything is shown, as text"


def test_what_was_tried_again_is_told(made: MadeRun, tmp_path: Path) -> None:
    undisturbed = Seen(render(collected(made))).text
    assert "Nothing: every step went well at its first attempt." in undisturbed
    made = copied(made, tmp_path / "demo")
    run = RunFolder(made.folder)
    add_attempt(run, KILLED)
    done = replace(KILLED, number=2, outcome="done", status=0, message="", halvings=1)
    add_attempt(run, replace(done, resumed=True))
    add_attempt(run, replace(KILLED, step="vqa_train"))  # once: nothing to tell
    add_attempt(run, replace(KILLED, fingerprint="e" * 64))  # of other settings
    found = collected(made)
    (tried,) = found.tried
    assert (tried.step, tried.num_attempts) == ("pretrain", 2)
    page = Seen(render(found)).text
    assert f"1 of {len(found.timeline.stages)} steps needed more than one attempt" in page
    assert "killed by somebody" in page
    assert "went on where the one before stopped; batches divided by 2, same results" in page


def test_the_page_needs_nothing_beside_itself(made: MadeRun) -> None:
    page = Seen(render(collected(made)))
    links = [value for name, value in page.attributes if name in ("src", "href")]
    assert all(link.startswith(("data:", "#")) for link in links)
    assert {link[1:] for link in links if link.startswith("#")} <= page.ids
    style = Path(report.__file__).parents[1] / "report" / "report.css"
    assert "url(" not in style.read_text()
    assert "@import" not in style.read_text()
    assert page.tags["link"] == 1, "the empty icon, so that a browser asks for none"


def test_sections_without_content_say_why(tmp_path: Path) -> None:
    found = collected(make_photos(tmp_path / "own", num_train=2, num_test=2))
    assert set(found.missing) == {"measures", "losses", "captions", "retrieval", "questions"}
    text = Seen(render(found)).text
    assert found.metrics == {}
    assert "no annotations of these photos were given" in text
    assert "No questions about these photos were given" in text
    assert len(found.gallery) == 4


def test_a_run_of_nothing_still_gives_a_page() -> None:
    text = Seen(render(collect({}, {}, None, Wishes(title="empty")))).text
    assert "0 photos" in text
    assert "No step is finished." in text
    assert "No photo with regions could be shown." in text


def test_photos_that_are_gone_are_named(tmp_path: Path) -> None:
    made = make_photos(tmp_path / "own", num_train=2, num_test=2)
    for path in made.photos["0"].iterdir():
        path.unlink()
    found = collected(made)
    lost = [entry for entry in found.gallery if not entry.picture.url]
    assert len(lost) == 2
    assert f"photo {lost[0].picture.image_id} could not be opened" in Seen(render(found)).text


def test_a_run_from_stored_regions_shows_its_words_without_photos(made: MadeRun) -> None:
    steps = {name: folder for name, folder in made.steps.items() if name != "list_images"}
    found = collect(steps, {}, None, Wishes(title="stored"))
    assert len(found.gallery) == 8  # all that have captions
    assert all(entry.caption and entry.regions for entry in found.gallery)
    assert not found.lead.startswith("0 photos")
    assert found.gallery[0].regions[0].english in Seen(render(found)).text


def test_colours_in_captions_are_judged_by_the_truth(made: MadeRun) -> None:
    parts = [part for entry in collected(made).gallery for part in entry.caption]
    assert {part.verdict for part in parts} == {"", "true", "false"}
    page = render(collected(made))
    true = [part.text for part in parts if part.verdict == "true"]
    assert f'<span class="mark true">{true[0]}' in page


def test_a_hundred_large_photos_fit(made: MadeRun) -> None:
    found = collected(made)
    url = "data:image/jpeg;base64," + "A" * 80_000
    large = replace(found.gallery[0].picture, url=url)
    entries = tuple(replace(found.gallery[0], picture=large) for _ in range(100))
    assert len(render(replace(found, gallery=entries))) < MAX_BYTES
