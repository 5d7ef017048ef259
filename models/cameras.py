"""Pinhole cameras, OpenCV convention: x right, y down, z forward; 4x4 world-to-camera, 3x3 intrinsics in pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

NAMED_AZIMUTHS_DEG = {"front": 0.0, "left": 90.0, "back": 180.0, "right": 270.0}
"""Azimuth of the named views. 0 looks at the object from +Z; 90 from +X."""


@dataclass(frozen=True)
class Camera:
    """world_to_camera_44 and intrinsics_33 are float64; pixel centres lie at half-integers."""

    world_to_camera_44: npt.NDArray[np.float64]
    intrinsics_33: npt.NDArray[np.float64]

    @property
    def centre_3(self) -> npt.NDArray[np.float64]:
        """The camera's position in the world."""
        rotation, translation = self.world_to_camera_44[:3, :3], self.world_to_camera_44[:3, 3]
        centre: npt.NDArray[np.float64] = -rotation.T @ translation
        return centre

    def project(self, points_N3: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Pixel positions (N, 2) and depths along the optical axis (N,)."""
        camera_N3 = points_N3 @ self.world_to_camera_44[:3, :3].T + self.world_to_camera_44[:3, 3]
        image_N3 = camera_N3 @ self.intrinsics_33.T
        return image_N3[:, :2] / image_N3[:, 2:], camera_N3[:, 2]

    def cropped(self, left_px: float, top_px: float, scale: float) -> Camera:
        """The camera of the image that starts at (left_px, top_px) and is then resized by `scale`."""
        shift = np.array([[1, 0, -left_px], [0, 1, -top_px], [0, 0, 1]], np.float64)
        resize = np.diag([scale, scale, 1.0])
        return Camera(self.world_to_camera_44, resize @ shift @ self.intrinsics_33)

    def to_json(self) -> dict[str, list[list[float]]]:
        return {
            "world_to_camera": self.world_to_camera_44.tolist(),
            "intrinsics": self.intrinsics_33.tolist(),
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> Camera:
        return Camera(
            np.asarray(value["world_to_camera"], np.float64).reshape(4, 4),
            np.asarray(value["intrinsics"], np.float64).reshape(3, 3),
        )


def orbit_camera(azimuth_deg: float, elevation_deg: float, distance: float, fov_deg: float, size_px: int) -> Camera:
    """A camera on a sphere about the origin, looking at it, with the world's Y up in the image."""
    azimuth, elevation = np.radians(azimuth_deg), np.radians(elevation_deg)
    centre = distance * np.array(
        [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)]
    )
    forward = -centre / np.linalg.norm(centre)
    up = np.array([0.0, 1.0, 0.0]) if abs(forward[1]) < 0.999 else np.array([0.0, 0.0, -np.sign(forward[1])])
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    rotation = np.stack([right, down, forward])
    world_to_camera = np.eye(4)
    world_to_camera[:3, :3] = rotation
    world_to_camera[:3, 3] = -rotation @ centre
    focal = size_px / 2 / np.tan(np.radians(fov_deg) / 2)
    intrinsics = np.array([[focal, 0, size_px / 2], [0, focal, size_px / 2], [0, 0, 1]])
    return Camera(world_to_camera, intrinsics)
