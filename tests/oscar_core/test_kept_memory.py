"""What is freed stays, until it is asked back."""

import resource
import sys

import pytest
import torch

from oscar_core.kept_memory import keep_freed_memory, return_freed_memory


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone can be told")
def test_a_large_tensor_made_again_costs_no_page_faults() -> None:
    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.zeros(12 << 20).add_(1.0)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    if not keep_freed_memory():
        pytest.skip("no glibc")
    try:
        faults()
        assert faults() < 1_000
    finally:
        return_freed_memory()
    assert faults() > 10_000
