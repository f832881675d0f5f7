"""What a stage reads is written or set aside; anything else is told."""

import pytest

from flows.balance import Counting, LostRecordsError, check_balance
from flows.errors import ExitStatus, exit_status


def test_a_lost_record_is_a_mistake_of_ours() -> None:
    check_balance("a_stage", num_in=3, num_out=2, num_quarantined=1)
    with pytest.raises(LostRecordsError, match="a_stage: 4 read, 2 written and 1 set") as caught:
        check_balance("a_stage", num_in=4, num_out=2, num_quarantined=1)
    assert exit_status(caught.value) == ExitStatus.CRASHED


def test_what_goes_through_is_counted() -> None:
    counting: Counting[str] = Counting()
    assert [*counting.through("ab"), *counting.through(iter("c"))] == ["a", "b", "c"]
    assert counting.num == 3
