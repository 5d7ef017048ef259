"""Headless rendering of meshes with pyrender: colour with straight alpha, and depth.

    renders = render(glb, [orbit_camera(30, 15, distance=2.7, fov_deg=40, size_px=256)], 256)
    renders.rgba_VHW4, renders.depth_VHW
    strip = turntable_strip(glb, num_views=6, size_px=160)              # (160, 960, 4), for pages

Four samples a pixel are taken for colour and alpha (GL's multisampling), times supersample^2. EGL and OSMesa differ in
single pixels; each repeats itself exactly. Vertex colours are sRGB, as images are. Not for use from several threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.cameras import Camera, orbit_camera
from models.geometry import ByteArray, FloatArray, Mesh
from models.rendering.assets import pyrender_mesh
from models.rendering.context import PACKAGES, GLContext, Platform, gl_context

__all__ = [
    "PACKAGES",
    "REACH",
    "Platform",
    "Renders",
    "render",
    "turntable_cameras",
    "turntable_grid",
    "turntable_strip",
]

REACH = 1.0
"""Distance from the origin within which everything is drawn; the canonical box reaches .866."""

NEAREST = 0.01
"""Distance from the camera within which nothing is drawn."""


@dataclass(frozen=True)
class Renders:
    """V views. rgba_VHW4: uint8, straight alpha. depth_VHW: float32 along the optical axis, 0 = background."""

    rgba_VHW4: ByteArray
    depth_VHW: FloatArray


def render(
    source: bytes | Mesh,
    cameras: Sequence[Camera],
    size_px: int,
    *,
    supersample: int = 1,
    platform: Platform = "auto",
) -> Renders:
    """Render GLB bytes or a mesh in the canonical frame from every camera, to squares of size_px.

    The mesh goes to GL once for all cameras. Raises BadInput for a source without triangles, Unavailable without GL.
    """
    context = gl_context(platform)
    import pyrender  # after the context: PyOpenGL binds to a platform at its first import

    scene = pyrender.Scene(bg_color=[0.0, 0.0, 0.0, 0.0])
    scene.add(pyrender_mesh(source))
    camera_node = scene.add(pyrender.IntrinsicsCamera(1, 1, 1, 1))
    scene.main_camera_node = camera_node
    views = [_view(context, scene, camera_node, camera, size_px, supersample) for camera in cameras]
    return Renders(np.stack([rgba for rgba, _ in views]), np.stack([depth for _, depth in views]))


def turntable_strip(
    source: bytes | Mesh,
    num_views: int,
    size_px: int,
    *,
    elevation_deg: float = 15.0,
    supersample: int = 2,
    platform: Platform = "auto",
) -> ByteArray:
    """A turn around the object from the front, side by side: (size_px, size_px * num_views, 4) uint8."""
    cameras = turntable_cameras(num_views, size_px, elevation_deg=elevation_deg)
    renders = render(source, cameras, size_px, supersample=supersample, platform=platform)
    return np.concatenate(list(renders.rgba_VHW4), axis=1)


def turntable_cameras(num_views: int, size_px: int, *, elevation_deg: float = 15.0) -> list[Camera]:
    """Cameras around the object from the front, in which the canonical box fills the picture."""
    azimuths_deg = 360.0 * np.arange(num_views) / num_views
    return [orbit_camera(azimuth, elevation_deg, 3.0, 26.0, size_px) for azimuth in azimuths_deg]


def turntable_grid(
    sources: Sequence[bytes | Mesh], num_views: int, size_px: int, *, platform: Platform = "auto"
) -> ByteArray:
    """The turntable strips of several objects under each other: (size_px * len(sources), size_px * num_views, 4)."""
    return np.concatenate([turntable_strip(source, num_views, size_px, platform=platform) for source in sources])


def _view(
    context: GLContext, scene: Any, camera_node: Any, camera: Camera, size_px: int, supersample: int
) -> tuple[ByteArray, FloatArray]:
    _aim(scene, camera_node, camera.cropped(0, 0, supersample))
    premultiplied_HW4, depth_HW = context.draw(scene, size_px * supersample)
    if supersample > 1:
        blocks = (size_px, supersample, size_px, supersample)
        rgba_HW4 = premultiplied_HW4.reshape(*blocks, 4).mean(axis=(1, 3), dtype=np.float32)
        far = np.where(depth_HW > 0, depth_HW, np.inf).reshape(blocks).min(axis=(1, 3))
        depth_HW = np.where(np.isfinite(far), far, 0)
    else:
        rgba_HW4 = premultiplied_HW4.astype(np.float32)
    return _straight(rgba_HW4), np.ascontiguousarray(depth_HW, np.float32)


def _aim(scene: Any, camera_node: Any, camera: Camera) -> None:
    """OpenCV camera -> GL (y up, z backward), with the depth range close around the object."""
    (fx, _, cx), (_, fy, cy), _ = camera.intrinsics_33
    lens = camera_node.camera
    lens.fx, lens.fy, lens.cx, lens.cy = fx, fy, cx, cy
    distance = float(np.linalg.norm(camera.centre_3))
    lens.znear = NEAREST  # before zfar, which must stay above it
    lens.zfar = distance + REACH
    lens.znear = max(distance - REACH, NEAREST)
    scene.set_pose(camera_node, np.linalg.inv(camera.world_to_camera_44) @ np.diag([1.0, -1.0, -1.0, 1.0]))


def _straight(premultiplied_HW4: npt.NDArray[np.float32]) -> ByteArray:
    rgba = premultiplied_HW4.copy()
    rgba[..., :3] *= 255 / np.maximum(rgba[..., 3:], 1)
    straight: ByteArray = np.rint(rgba.clip(0, 255)).astype(np.uint8)
    return straight
