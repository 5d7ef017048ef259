"""The README's picture from a finished demo: rows of input, teacher, student and truth for a few test items.

python -m benchmarks.picture [--workspace demo] [--out docs/pictures/demo.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from models.geometry import ByteArray, Mesh
from models.rendering import turntable_strip
from models.views import decode_rgba
from tasks.engine.worker import open_upstream
from tasks.stages.evaluate.methods import STUDENT, record_id
from tasks.stages.evaluate.results import by_item
from tasks.workspace import Workspace

NUM_ITEMS = 4
STRIP_VIEWS = 3
SIZE_PX = 112
PAPER = np.array([250, 250, 247], np.float32)
COLUMNS = ("given", "teacher", "student", "truth")
INK, TEXT_PX = (90, 92, 96), 15
GAP_PX = 24
GREY = np.array([168, 171, 175, 255], np.uint8)


def picture(workspace: Workspace) -> ByteArray:
    """(H, W, 3): one row an item, the median item by the student's Chamfer in the middle of those shown."""
    evaluate = open_upstream(workspace, "evaluate")
    items = by_item(evaluate.records.values())
    chamfers = {item_id: item.quality[STUDENT]["chamfer"] for item_id, item in items.items() if item.basis == "truth"}
    ranked = sorted(chamfers, key=lambda item_id: chamfers[item_id])
    shown = [ranked[round(share * (len(ranked) - 1))] for share in np.linspace(0, 1, NUM_ITEMS)]
    return np.concatenate([headings(), *(row(workspace, item_id) for item_id in shown)])


def headings() -> ByteArray:
    """(H, W, 3): what each column shows, over its middle."""
    widths = [SIZE_PX, *[STRIP_VIEWS * SIZE_PX] * (len(COLUMNS) - 1)]
    strip = Image.new("RGB", (sum(widths) + GAP_PX * (len(widths) - 1), 2 * TEXT_PX), tuple(PAPER.astype(int)))
    draw, left = ImageDraw.Draw(strip), 0
    for width, word in zip(widths, COLUMNS, strict=True):
        draw.text((left + width / 2, TEXT_PX), word, INK, ImageFont.load_default(TEXT_PX), anchor="mm")
        left += width + GAP_PX
    return np.asarray(strip)


def row(workspace: Workspace, item_id: str) -> ByteArray:
    """Left view given to the student, then turns of the teacher's mesh, the student's and the truth."""
    matte, teach, ingest, evaluate = (
        open_upstream(workspace, name) for name in ("matte", "teach", "ingest", "evaluate")
    )
    view = Image.fromarray(decode_rgba(matte.read(item_id, "view.left.png"))).resize((SIZE_PX, SIZE_PX))
    student = Mesh.from_glb(evaluate.read(record_id(item_id, STUDENT), "mesh.glb"))
    colours_N4 = np.tile(GREY, (len(student.vertices_N3), 1)) if student.colours_N4 is None else student.colours_N4
    drawn = Mesh(student.vertices_N3, student.faces_F3, colours_N4)
    sources = (teach.read(item_id, "mesh.glb"), drawn, ingest.read(item_id, "mesh.glb"))
    strips = [turntable_strip(source, STRIP_VIEWS, SIZE_PX) for source in sources]
    gap = np.zeros((SIZE_PX, GAP_PX, 4), np.uint8)
    parts = [np.asarray(view)]
    for strip in strips:
        parts += [gap, strip]
    return on_paper(np.concatenate(parts, axis=1))


def on_paper(rgba_HW4: ByteArray) -> ByteArray:
    alpha = rgba_HW4[..., 3:].astype(np.float32) / 255
    composed: ByteArray = np.rint(rgba_HW4[..., :3] * alpha + PAPER * (1 - alpha)).astype(np.uint8)
    return composed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, default=Path("demo"))
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/demo.png"))
    chosen = parser.parse_args()
    image = Image.fromarray(picture(Workspace.find(chosen.workspace)))
    image.quantize(256).save(chosen.out, optimize=True)
    print(chosen.out)


if __name__ == "__main__":
    main()
