"""`python -P -m tests.faults.collector WORKSPACE`: gc of the toy stage, in a process that can be killed."""

import sys
from pathlib import Path

from tasks.commands.gc import collect
from tasks.workspace import Workspace

if __name__ == "__main__":
    collect(Workspace(Path(sys.argv[1]).resolve()), "toy", dry_run=False)
