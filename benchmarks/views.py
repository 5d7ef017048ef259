"""Views a second of the renderer: generated shoes, colour and depth, uploading the mesh included.

python -m benchmarks.views [--size 256] [--platform osmesa] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

from models.cameras import orbit_camera
from models.geometry import canonical
from models.rendering import render
from models.shapes import make

NUM_MESHES = 12
VIEWS_EACH = 12
REPEATS = 3


def measure(size_px: int, platform: str) -> dict[str, float | int | str]:
    """Median over REPEATS of views a second, in this one process."""
    meshes = [canonical(make("shoe", seed).mesh) for seed in range(NUM_MESHES)]
    cameras = [orbit_camera(360 * index / VIEWS_EACH, 12, 2.7, 40, size_px) for index in range(VIEWS_EACH)]
    render(meshes[0], cameras[:1], size_px, platform=platform)  # type: ignore[arg-type]  # checked by argparse
    rates = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        for mesh in meshes:
            render(mesh, cameras, size_px, platform=platform)  # type: ignore[arg-type]
        rates.append(NUM_MESHES * VIEWS_EACH / (time.perf_counter() - started))
    return {
        "size_px": size_px,
        "platform": platform,
        "triangles": round(statistics.mean(len(mesh.faces_F3) for mesh in meshes)),
        "views_a_second": statistics.median(rates),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels")
    parser.add_argument("--platform", choices=("auto", "egl", "osmesa"), default="auto")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    figures = measure(chosen.size, chosen.platform)
    if chosen.json:
        print(json.dumps(figures))
    else:
        print(f"{figures['views_a_second']:.4g} views a second at {chosen.size} px on {chosen.platform}")


if __name__ == "__main__":
    main()
