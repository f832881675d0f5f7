"""A candidate's metrics against the bounds that the user set."""

import pytest

from flows.gate import judge
from flows.retrain_settings import Bound


def test_without_a_gate_everything_passes() -> None:
    verdict = judge({}, {"vqa.accuracy": 0.1}, {"vqa.accuracy": 0.9})
    assert verdict.passes
    assert verdict.reason == "no gate is set"


@pytest.mark.parametrize(("value", "passes"), [(0.49, False), (0.5, True), (0.51, True)])
def test_a_lowest_value_is_still_good(value: float, passes: bool) -> None:
    assert judge({"cider": Bound(at_least=0.5)}, {"cider": value}, None).passes is passes


@pytest.mark.parametrize(("value", "passes"), [(0.69, False), (0.7, True), (0.9, True)])
def test_a_fall_is_measured_from_the_current_model(value: float, passes: bool) -> None:
    """0.8 - 0.7 is 0.10000000000000009 in binary."""
    verdict = judge({"cider": Bound(may_fall=0.1)}, {"cider": value}, {"cider": 0.8})
    assert verdict.passes is passes


def test_nothing_falls_where_nothing_was() -> None:
    gate = {"cider": Bound(may_fall=0.0)}
    assert judge(gate, {"cider": 0.1}, None).passes
    assert judge(gate, {"cider": 0.1}, {"bleu": 0.9}).passes


def test_every_bound_must_hold_and_the_reason_names_those_that_do_not() -> None:
    gate = {"cider": Bound(at_least=1.0), "bleu": Bound(at_least=0.2, may_fall=0.01)}
    verdict = judge(gate, {"cider": 2.0, "bleu": 0.25}, {"bleu": 0.4})
    assert not verdict.passes
    assert verdict.reason == "bleu fell from 0.4 to 0.25, it may fall by 0.01 at most"
    assert [row["holds"] for row in verdict.rows()] == ["yes", "no"]
    assert verdict.rows()[1]["bound"] == "at least 0.2, may fall by 0.01"


def test_a_metric_that_was_not_measured_does_not_pass() -> None:
    verdict = judge({"vqa.acuracy": Bound()}, {"vqa.accuracy": 0.9}, None)
    assert not verdict.passes
    assert verdict.reason == (
        "retrain.gate: vqa.acuracy was not measured: unknown metric; did you mean 'vqa.accuracy'?"
    )
