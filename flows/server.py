"""The workspace's own Prefect server, once `lostwax up` has started it."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from urllib.error import URLError

from tasks.workspace import Workspace


def server_file(workspace: Workspace) -> Path:
    """Where `lostwax up` writes what it started: {"url": ..., "pids": {...}}."""
    return workspace.root / ".lostwax" / "server.json"


def running_server(workspace: Workspace) -> str | None:
    """The API's address if the workspace's server answers, else None."""
    path = server_file(workspace)
    if not path.is_file():
        return None
    url: str = json.loads(path.read_text())["url"]
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:  # noqa: S310 - our own loopback server
            return url if answer.status == 200 else None
    except (URLError, TimeoutError, ConnectionError):
        return None
