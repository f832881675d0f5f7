"""The extraction benchmark runs through, in small."""

import pytest

from benchmarks.extraction import memory_figures, overlap_figures


@pytest.mark.slow
def test_memory_is_looked_at_twice_and_told() -> None:
    found = {each.name: each for each in memory_figures((256, 768), 1_000)}
    assert found["extraction.extracting_resident, early"].n == 256
    assert found["extraction.extracting_resident"].n == 768
    assert found["extraction.listing_rate"].n == 1_000
    assert all(each.value for each in found.values())


@pytest.mark.slow
def test_the_whole_is_compared_with_the_network_alone() -> None:
    found = {each.name: each.value for each in overlap_figures("lite0", 4)}
    assert 0 < found["extraction.lite0.cpu_share"] <= 1.2
    assert found["extraction.lite0.whole"] > 0
