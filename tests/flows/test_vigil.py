"""When a child is given up, by a clock that the tests move."""

import threading

from flows.limits import StageLimits
from flows.progress import ProgressReport
from flows.vigil import OWN_PAUSE_SECONDS, START_SECONDS, Furthest, Vigil


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def watch(vigil: Vigil, clock: Clock, seconds: float) -> list[str]:
    """Look every second for that long; what was said."""
    said = []
    for _ in range(int(seconds)):
        clock.now += 1.0
        said.append(vigil.verdict(clock.now - 1000.0))
    return said


def make_vigil(**limits: float) -> tuple[Vigil, Clock, threading.Event]:
    clock, stop = Clock(), threading.Event()
    return Vigil(StageLimits(**limits), stop, clock), clock, stop


def test_a_child_without_a_sign_of_life_is_hung() -> None:
    vigil, clock, _ = make_vigil(heartbeat_seconds=10)
    vigil.heard(0)
    assert watch(vigil, clock, 10) == [""] * 10
    assert watch(vigil, clock, 1) == ["hung"]
    assert vigil.why == "hung: no sign of life for 11 s"


def test_a_child_has_time_to_start() -> None:
    vigil, clock, _ = make_vigil(heartbeat_seconds=10)
    assert watch(vigil, clock, 10 + START_SECONDS)[-1] == ""
    assert watch(vigil, clock, 1) == ["hung"]


def test_signs_of_life_keep_it() -> None:
    vigil, clock, _ = make_vigil(heartbeat_seconds=10)
    for _ in range(5):
        watch(vigil, clock, 8)
        vigil.heard(0)
    assert vigil.verdict(40.0) == ""


def test_one_silent_process_of_several_is_enough_unless_it_said_goodbye() -> None:
    for goodbye, verdict in ((False, "hung"), (True, "")):
        vigil, clock, _ = make_vigil(heartbeat_seconds=10)
        vigil.heard(0)
        vigil.heard(1)
        if goodbye:
            vigil.left(1)
        watch(vigil, clock, 8)
        vigil.heard(0)
        assert watch(vigil, clock, 4)[-1] == verdict


def test_a_beat_after_the_last_word_does_not_bring_a_process_back() -> None:
    vigil, clock, _ = make_vigil(heartbeat_seconds=10.0)
    vigil.heard(0)
    vigil.heard(1)
    vigil.left(1)
    vigil.heard(1)
    for _ in range(30):
        vigil.heard(0)
        assert watch(vigil, clock, 5) == [""] * 5


def test_life_without_progress_is_hung_where_a_limit_is_set() -> None:
    vigil, clock, _ = make_vigil(silence_seconds=20)
    for _ in range(4):
        watch(vigil, clock, 5)
        vigil.heard(0)
    assert vigil.verdict(20.0) == ""
    vigil.progressed()
    assert watch(vigil, clock, 20)[-1] == ""
    assert watch(vigil, clock, 1) == ["hung"]
    assert vigil.why == "hung: no progress for 21 s"


def test_a_pause_of_this_process_is_not_the_childs_fault() -> None:
    vigil, clock, _ = make_vigil(heartbeat_seconds=60, silence_seconds=60)
    vigil.heard(0)
    clock.now += 60 + OWN_PAUSE_SECONDS
    assert vigil.verdict(1.0) == ""
    assert watch(vigil, clock, 61)[-1] == "hung"


def test_stop_and_time_limit_come_first() -> None:
    vigil, clock, stop = make_vigil(seconds=5)
    assert watch(vigil, clock, 6)[-1] == "time limit"
    stop.set()
    assert vigil.verdict(7.0) == "stopped"


def test_further_means_more_of_the_same_unit_or_a_new_unit() -> None:
    def report(done: int, unit: str = "steps") -> ProgressReport:
        return ProgressReport(done=done, total=9, unit=unit, rate=None, seconds_left=None)

    furthest = Furthest()
    assert not furthest.take()
    furthest.at(report(3))
    assert furthest.take()
    furthest.at(report(3))
    furthest.at(report(2))
    assert not furthest.take()
    furthest.at(report(0, "photos"))
    assert furthest.take()
    furthest.at(report(4))
    assert furthest.take()
