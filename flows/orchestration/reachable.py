"""Does Prefect's server answer, with this environment's password? A container's health check.

`python -m flows.orchestration.reachable` ends with 0, or with one line and 1. It imports no
Prefect, so a check costs a tenth of a second.
"""

import base64
import http.client
import os
import sys
from collections.abc import Mapping
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

_SECONDS = 10.0


def trouble(environment: Mapping[str, str]) -> str:
    """What keeps this environment from Prefect's API; "" where nothing does."""
    address = environment.get("PREFECT_API_URL", "")
    if not address.startswith(("http://", "https://")):
        return "PREFECT_API_URL names no server"
    asked = Request(
        f"{address.rstrip('/')}/admin/version"
    )  # asks for the password; health does not
    if password := environment.get("PREFECT_API_AUTH_STRING"):
        coded = base64.b64encode(password.encode()).decode()
        asked.add_header("Authorization", f"Basic {coded}")
    try:
        with urlopen(asked, timeout=_SECONDS):
            return ""
    except HTTPError as error:
        return f"{address}: {error.code} {error.reason}"
    except (URLError, OSError, http.client.HTTPException) as error:
        return f"{address}: {error}"


if __name__ == "__main__":
    sys.exit(trouble(os.environ) or 0)
