"""A mesh the other way round: mirrored, turned by half or upside down. What fits its views better so is wrong as it is.

    flip = Flip((-1, 1, 1))
    flipped = [flip.camera(camera, size_px) for camera in cameras]
    images_VHW4 = flip.images(render(mesh, flipped, size_px).rgba_VHW4)   # as `cameras` would see the mirrored mesh

The mesh stays as it is: its cameras are flipped. A flipped camera often stands where another one stands already (the
mirrored left view is the right view), and needs no rendering then: `cropped_anew`. The light goes with a camera: in a
mirrored image it comes from the other side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from models.cameras import Camera
from models.geometry import ByteArray

SAME = 1e-6
"""Most by which the centres and the optical axes of like cameras differ."""


@dataclass(frozen=True)
class Flip:
    """signs_3: 1 or -1 for each axis of the world. An odd number of -1 mirrors, two of them turn by half."""

    signs_3: tuple[int, int, int]

    @property
    def mirrors(self) -> bool:
        return int(np.prod(self.signs_3)) < 0

    def camera(self, camera: Camera, width_px: int) -> Camera:
        """What this camera sees of a mesh is, through `images`, what `camera` sees of the flipped mesh."""
        world_to_camera_44 = camera.world_to_camera_44 @ np.diag([*self.signs_3, 1.0])
        if not self.mirrors:
            return Camera(world_to_camera_44, camera.intrinsics_33)
        to_left_33 = np.array([[-1.0, 0, width_px], [0, 1, 0], [0, 0, 1]])
        intrinsics_33 = to_left_33 @ camera.intrinsics_33 @ np.diag([-1.0, 1, 1])
        return Camera(np.diag([-1.0, 1, 1, 1]) @ world_to_camera_44, intrinsics_33)

    def images(self, rgba_VHW4: ByteArray) -> ByteArray:
        """Images of flipped cameras, the right way round."""
        return rgba_VHW4[:, :, ::-1] if self.mirrors else rgba_VHW4


def find_alike(camera: Camera, others: Sequence[Camera]) -> int | None:
    """The first of the others that stands where the camera stands and looks the same way; None without one."""

    def place(camera: Camera) -> npt.NDArray[np.float64]:
        return np.concatenate([camera.centre_3, camera.world_to_camera_44[2, :3]])

    apart = [float(np.abs(place(camera) - place(other)).max()) for other in others]
    return next((index for index, distance in enumerate(apart) if distance < SAME), None)


def cropped_anew(rgba_HW4: ByteArray, camera: Camera, other: Camera) -> ByteArray:
    """What `other`, a like camera, sees: the camera's image turned, cropped and scaled."""
    from PIL import Image

    to_pixels_33, from_pixels_33 = _rays_to_pixels(camera), np.linalg.inv(_rays_to_pixels(other))
    homography_33 = to_pixels_33 @ from_pixels_33
    coefficients = (homography_33 / homography_33[2, 2]).ravel()[:8].tolist()
    image = Image.fromarray(rgba_HW4)
    method, resample = Image.Transform.PERSPECTIVE, Image.Resampling.BILINEAR
    return np.asarray(image.transform(image.size, method, coefficients, resample))


def _rays_to_pixels(camera: Camera) -> npt.NDArray[np.float64]:
    """Homogeneous pixels (3, 3) of directions in the world."""
    return camera.intrinsics_33 @ camera.world_to_camera_44[:3, :3]


FLIPS = tuple(Flip((x, y, z)) for x, y, z in product((1, -1), repeat=3) if min(x, y, z) < 0)
"""All seven: every way to exchange left and right, up and down, front and back."""
