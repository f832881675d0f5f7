"""What the processor can do, as far as it decides which engine is the fastest."""

import os
import re
from functools import cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_LIMIT = "ONEDNN_MAX_CPU_ISA"
"""Environment variable of oneDNN (in torch and in OpenVINO) that hides instruction sets."""


@cache
def instruction_sets() -> frozenset[str]:
    """Names of the processor's instruction sets as Linux gives them; empty elsewhere."""
    try:
        text = _CPUINFO.read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    found = re.search(r"^flags\s*:\s*(.*)$", text, re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()


def _limit() -> str:
    return os.environ.get(_LIMIT, "").upper()


def has_vnni() -> bool:
    """Whether 8-bit products are summed in 32 bits at once, without running over."""
    limit = _limit()
    if limit.startswith(("SSE", "AVX2")) or limit in ("AVX", "AVX512_CORE"):
        return limit == "AVX2_VNNI" and "avx_vnni" in instruction_sets()
    return bool({"avx512_vnni", "avx_vnni"} & instruction_sets())


def has_bfloat16() -> bool:
    """Whether there are instructions for bfloat16 (AVX512-bf16 or AMX)."""
    limit = _limit()
    if limit.startswith(("SSE", "AVX2")) or limit in ("AVX", "AVX512_CORE", "AVX512_CORE_VNNI"):
        return False
    return bool({"avx512_bf16", "amx_bf16"} & instruction_sets())
