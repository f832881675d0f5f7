"""URLs as they may be told: without the secrets that some carry.

What a run is told is kept: in `config.yaml`, in messages, on Prefect's pages. So a place is named
without its password, which fsspec takes from the environment or from its own configuration.
"""

import re

WITHOUT_SECRET = "name it without password; fsspec takes that from the environment"
"""What to say of one that carries a secret."""

_LOGIN = re.compile(r"(?<=://)([^/?#:@]*):(?!\d+/).*@")
"""User, and a password that may hold what it should not; a port is none."""
_IN_QUERY = re.compile(r"(?i)\b(password|passwd|token|secret|key)=[^&#]*")


def carries_secret(url: str) -> bool:
    """Whether a URL has a password before its host, or one among its parameters."""
    return masked(url) != url


def masked(url: str) -> str:
    """The URL with every secret in it replaced by ***; the user's name stays.

    A password that is not encoded as it should be (with "/" or "@" in it) goes, too.
    """
    return _IN_QUERY.sub(r"\1=***", _LOGIN.sub(r"\1:***@", url))
