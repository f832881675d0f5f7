"""What can go wrong while scoring; each error is one line: what, where, how to mend."""


class MetricError(Exception):
    """Base of all errors of the metrics."""


class CoverageError(MetricError):
    """Predictions and ground truth do not speak of the same ids (missing, unknown, twice)."""


class MetricInputError(MetricError):
    """A value that cannot be scored: NaN, an empty set, a caption that is no text."""


class MetricFileError(MetricError):
    """A file of references or predictions is not what its format says."""


class JavaUnavailableError(MetricError):
    """No Java runtime or no scorer jar is installed, so PTB and METEOR cannot be computed."""


class JavaProcessError(MetricError):
    """A Java program died, hung, or answered something else than its protocol says."""


MAX_NAMED_IDS = 5
"""So many ids are named in an error; the rest is counted."""


def name_ids(ids: list[str]) -> str:
    """The first few ids and how many more there are, for an error line."""
    named = ", ".join(ids[:MAX_NAMED_IDS])
    return named if len(ids) <= MAX_NAMED_IDS else f"{named} and {len(ids) - MAX_NAMED_IDS} more"
