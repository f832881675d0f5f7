"""How long a stage may work, be silent, and be tried again; YAML section `limits.<stage>`.

No part of a fingerprint.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLimits:
    """Bounds of one stage; None for none, or for what `resources` says.

    seconds:           of one attempt, before its whole process group is killed for good
    heartbeat_seconds: without a sign of life (the child sends one every few seconds, whatever its
                       work does) before the group is killed and the step tried again: the process
                       is stopped, or the machine stands still
    silence_seconds:   without progress before the same happens: it lives and does nothing
    retries:           how often a failure that may pass is tried again; None: `resources.retries`
    """

    seconds: float | None = None
    heartbeat_seconds: float | None = 120.0
    silence_seconds: float | None = None
    retries: int | None = None


NO_LIMITS = StageLimits()
