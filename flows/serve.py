"""`python -P -m flows.serve FD`: a Prefect server for the length of one command, on a listening socket it was given.

It ends when its standard input does. The command holds the other end, so no way of dying, SIGKILL included, leaves a
server behind.
"""

from __future__ import annotations

import socket
import sys
import threading

import uvicorn
from prefect.server.api.server import create_app


def main() -> None:
    """Serve until standard input ends."""
    listening = socket.socket(fileno=int(sys.argv[1]))
    config = uvicorn.Config(create_app(ephemeral=True, final=True), log_level="error", lifespan="on")
    server = uvicorn.Server(config)
    threading.Thread(target=_stop_with_parent, args=(server,), daemon=True).start()
    server.run(sockets=[listening])


def _stop_with_parent(server: uvicorn.Server) -> None:
    sys.stdin.buffer.read()
    server.should_exit = True


if __name__ == "__main__":
    main()
