"""Questions to a Prefect server, as its own UI asks them."""

from __future__ import annotations

import json
import urllib.request
from typing import Any


def post(url: str, body: dict[str, Any]) -> Any:
    """The JSON that a POST is answered with."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def artifacts_of(api: str, flow_run_id: str) -> dict[str, dict[str, Any]]:
    """The artifacts of a flow run by key."""
    found = post(f"{api}/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [flow_run_id]}}})
    return {artifact["key"]: artifact for artifact in found if artifact["key"]}
