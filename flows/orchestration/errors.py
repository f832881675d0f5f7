"""What goes wrong between Prefect's clients and its server."""

import httpx
from prefect.exceptions import PrefectException

SERVER_ERRORS = (RuntimeError, PrefectException, httpx.HTTPError)
"""Raised by Prefect's clients when the server is gone, refuses, or answers nonsense."""


def said(error: BaseException, length: int = 300) -> str:
    """What an error says, on one line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:length]
