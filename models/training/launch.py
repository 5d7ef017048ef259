"""A training in several processes of this machine, by torchrun's elastic launcher.

    run_in_processes(4, work, folder)         # `work(folder)` in each, with torchrun's environment: `join` reads it

A process that dies ends the others within seconds; all start again, at most RESTARTS times, and go on from the newest
checkpoint. Several machines run `torchrun` themselves (docs/several-gpus.md).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from typing import Any

RESTARTS = 3
"""Of all processes, before the training fails."""
LOOKS_EVERY_S = 0.5
"""How often the launcher looks whether its processes live."""
OWN_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
"""torch 2.12 keeps one store over all restarts, in which started processes find the addresses of ended ones."""


class ProcessesFailed(RuntimeError):
    """A process failed more often than it is started again; the message is what it said."""


def run_in_processes(num_processes: int, work: Callable[..., Any], *arguments: Any, restarts: int = RESTARTS) -> None:
    """Run a module-level function in that many new processes. Raises ProcessesFailed."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",  # the host may know itself by a name that leads nowhere
        max_restarts=restarts,
        monitor_interval=LOOKS_EVERY_S,
        start_method="spawn",
    )
    os.environ[OWN_STORE] = "1"
    try:
        elastic_launch(config, work)(*arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise ProcessesFailed(f"process {rank} of {num_processes}: {failure.message}") from error
