"""`python -P -m flows.serve FD`: a Prefect server for the length of one command, on a listening socket it was given.

It ends when its standard input does. The command holds the other end, so no way of dying, SIGKILL included, leaves a
server behind.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uvicorn


def main() -> None:
    """Serve until standard input ends."""
    watch = Watch()
    threading.Thread(target=watch.run, daemon=True).start()
    import uvicorn
    from prefect.server.api.server import create_app

    app = create_app(ephemeral=True, final=True)
    watch.server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
    watch.server.run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
    sys.stderr.flush()
    os._exit(0)  # everything is written down; taking the interpreter apart would keep the command waiting for a second


class Watch:
    """Waits for the end of standard input."""

    server: uvicorn.Server | None = None

    def run(self) -> None:
        """In order where the server runs: it has runs to write down. At once where it is still starting."""
        sys.stdin.buffer.read()
        if self.server is None or not self.server.started:
            os._exit(1)
        self.server.should_exit = True


if __name__ == "__main__":
    main()
