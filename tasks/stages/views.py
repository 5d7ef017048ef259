"""views: each mesh rendered from a ring of cameras and the four named ones; photos are taken as they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from models.cameras import NAMED_AZIMUTHS_DEG, Camera, orbit_camera
from models.errors import BadInput
from models.geometry import FRAME
from models.params import Block
from models.rendering import REACH, Platform, render
from models.views import encode_png
from tasks.collections.records import Record
from tasks.engine.stage import Context, Item, Output, Stage

BOX_RADIUS = float(np.sqrt(3) / 2)
MESH = "mesh.glb"
PHOTO, VIEW, DEPTH = "photo.", "view.", "depth."


class ViewsParams(Block):
    """The `views` block. The defaults were chosen by the visual hull's Chamfer distance to ten real meshes."""

    size_px: int = Field(256, ge=32, le=2048)
    """Side of the square images."""
    named_elevation_deg: float = Field(12.0, ge=-80, le=80)
    """Elevation of front, left, back and right: about where one photographs from."""
    num_ring: int = Field(8, ge=0, le=100)
    """Cameras around the object beside the named four."""
    ring_elevations_deg: tuple[float, ...] = Field((60.0, 0.0, -40.0), min_length=1)
    """Elevations of the ring's cameras, taken in turn. Level ones see flat tops and soles edge on."""
    distance: float = Field(2.7, gt=1.0, le=100)
    """Of the cameras from the object's centre; the object's longest side is 1."""
    fov_deg: float = Field(40.0, gt=1, lt=120)
    """Full field of view."""
    supersample: int = Field(1, ge=1, le=4)
    """Renders this many times larger and averages, on top of four samples a pixel."""
    platform: Platform = "auto"
    """What GL runs on: auto (EGL, else OSMesa), egl or osmesa."""

    @model_validator(mode="after")
    def _box_fits(self) -> Self:
        needed_deg = 2 * np.degrees(np.arcsin(BOX_RADIUS / self.distance))
        if self.fov_deg < needed_deg:
            raise ValueError(f"an object at distance {self.distance} may need a fov_deg of {needed_deg:.1f}")
        return self


class Views(Stage):
    """Writes view.NAME.png; for meshes also depth.NAME.png and cameras.json."""

    name = "views"
    upstreams = ("ingest",)
    Params = ViewsParams

    def reads(self, records: Mapping[str, Record], params: Any) -> Iterable[tuple[str, str]]:
        """The mesh, or the photos."""
        files = records["ingest"].files
        names = [MESH] if MESH in files else sorted(name for name in files if name.startswith(PHOTO))
        return [("ingest", name) for name in names]

    def start(self, context: Context) -> Callable[[Item], Output]:
        """Opens no GL before a mesh comes: photos need none."""
        params: ViewsParams = context.params.stage(self.name)
        cameras = camera_set(params)

        def run(item: Item) -> Output:
            if MESH in item.names("ingest"):
                return render_mesh(item.read("ingest", MESH), cameras, params)
            photos = item.names("ingest", PHOTO)
            if not photos:
                raise BadInput(f"item {item.label} has neither {MESH} nor photos")
            files = {VIEW + name.removeprefix(PHOTO): item.read("ingest", name) for name in photos}
            names = [name.removeprefix(PHOTO).removesuffix(".png") for name in photos]
            return Output(files, facts={"views": names, "cameras": False})

        return run


def camera_set(params: ViewsParams) -> dict[str, Camera]:
    """The cameras by name: the four named ones, then the ring, which lies between them."""
    lens = (params.distance, params.fov_deg, params.size_px)
    cameras = {
        name: orbit_camera(azimuth_deg, params.named_elevation_deg, *lens)
        for name, azimuth_deg in NAMED_AZIMUTHS_DEG.items()
    }
    for index in range(params.num_ring):
        azimuth_deg = 360 * (index + 0.5) / params.num_ring
        elevation_deg = params.ring_elevations_deg[index % len(params.ring_elevations_deg)]
        cameras[f"ring_{index:02d}"] = orbit_camera(azimuth_deg, elevation_deg, *lens)
    return cameras


def render_mesh(glb: bytes, cameras: Mapping[str, Camera], params: ViewsParams) -> Output:
    """Colour, alpha, depth and cameras of a mesh. Raises BadInput when a view of it is empty."""
    renders = render(
        glb, list(cameras.values()), params.size_px, supersample=params.supersample, platform=params.platform
    )
    depth_scale = (params.distance + REACH) / np.iinfo(np.uint16).max
    files = {}
    for name, rgba_HW4, depth_HW in zip(cameras, renders.rgba_VHW4, renders.depth_VHW, strict=True):
        if not rgba_HW4[..., 3].any():
            raise BadInput(f"the mesh cannot be seen from {name}: it is too thin, or not in the canonical frame")
        files[f"{VIEW}{name}.png"] = encode_png(rgba_HW4)
        files[f"{DEPTH}{name}.png"] = encode_png(np.rint(depth_HW / depth_scale).astype(np.uint16))
    layout = {
        "size_px": params.size_px,
        "depth_scale": depth_scale,
        "views": {name: camera.to_json() for name, camera in cameras.items()},
    }
    files["cameras.json"] = json.dumps(layout).encode()
    return Output(files, frame=FRAME, facts={"views": list(cameras), "cameras": True})
