"""`make demo`: the main job from nothing to a cast mesh, with a worker killed on the way. Then a photo's cast.

Works in the ignored folder demo/, through the `lostwax` command as a user would. A second `make demo` finds everything
done; `rm -r demo` starts afresh.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tasks.collections.ledger import Ledger
from tasks.order import ORDER
from tasks.workspace import Workspace

FOLDER = Path("demo")
LOSTWAX = str(Path(sys.executable).parent / "lostwax")
UNSEEN_SEED = 987_654


def main() -> int:
    started = time.monotonic()
    workspace = Workspace(FOLDER.resolve())
    if not workspace.params_file.is_file():
        lostwax("init", str(FOLDER), "--generated", "shoes")
    killed = run_and_kill_a_worker(workspace)
    recomputed = sum(num_recomputed(workspace, stage) for stage in ORDER)
    print(
        f"killed worker {killed} in the middle of teach; recomputed {recomputed}"
        if killed
        else f"teach was done, no worker to kill; recomputed {recomputed}"
    )
    image = workspace.root / "unseen_left.png"
    picture_of_unseen_shoe(image)
    lostwax("generate", str(image), "-o", str(workspace.root / "unseen.glb"), "-w", str(FOLDER))
    cast_a_real_photo(workspace)
    print(f"the page: {workspace.artifacts('report') / 'index.html'}")
    print(f"all of it in {time.monotonic() - started:.0f} s")
    return 0 if recomputed == 0 else 1


def lostwax(*arguments: str, check: bool = True) -> None:
    subprocess.run([LOSTWAX, *arguments], check=check)


def run_and_kill_a_worker(workspace: Workspace) -> int | None:
    """`lostwax run`; SIGKILL for one of teach's workers once it has finished an item and has the next in hand."""
    run = subprocess.Popen([LOSTWAX, "run", "-w", str(FOLDER)])
    killed = None
    while run.poll() is None:
        if killed is None:
            killed = next(busy_workers(workspace), None)
            if killed is not None:
                os.kill(killed, signal.SIGKILL)
        time.sleep(0.1)
    if run.returncode != 0:
        sys.exit(run.returncode)
    return killed


def busy_workers(workspace: Workspace) -> Iterator[int]:
    """Process ids of teach's workers that have finished something and work on something."""
    local = workspace.local("teach")
    for spool in local.glob("spool-*.tar"):
        pid = int(spool.name.split("-")[1])
        marker = local / f"inflight-{pid}"
        try:
            if spool.stat().st_size > 0 and marker.read_text().strip():
                yield pid
        except FileNotFoundError:
            continue


def num_recomputed(workspace: Workspace, stage: str) -> int:
    """Items that the ledger saw finished more than once."""
    with Ledger(workspace.local(stage)) as ledger:
        return sum(count - 1 for count in ledger.times_done().values())


def picture_of_unseen_shoe(path: Path) -> None:
    """The left view of a shoe that no stage has seen, as a photo with its background removed."""
    from models.cameras import NAMED_AZIMUTHS_DEG, orbit_camera
    from models.geometry import canonical
    from models.rendering import render
    from models.shapes import make
    from models.views import encode_png

    camera = orbit_camera(NAMED_AZIMUTHS_DEG["left"], 12.0, distance=2.7, fov_deg=40.0, size_px=512)
    path.write_bytes(encode_png(render(canonical(make("shoe", UNSEEN_SEED).mesh), [camera], 512).rgba_VHW4[0]))


def cast_a_real_photo(workspace: Workspace) -> None:
    """A portrait that scikit-image ships (NASA, public domain), cut out and inflated by the teacher.

    The student has only seen shoes. Where the matte model is absent, the command says how to have it.
    """
    from PIL import Image
    from skimage import data

    photo = workspace.root / "astronaut.png"
    Image.fromarray(data.astronaut()).save(photo)
    out = workspace.root / "astronaut_cast.glb"
    lostwax("teacher", "try", "classical", str(photo), "-o", str(out), "-w", str(FOLDER), check=False)


if __name__ == "__main__":
    sys.exit(main())
