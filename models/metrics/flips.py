"""A mesh the other way round: mirrored, turned by half or upside down. What fits its views better so is wrong as it is.

    flip = Flip((-1, 1, 1))
    seen = [flip.camera(camera, size_px) for camera in cameras]
    flipped_VHW4 = flip.images(render(mesh, seen, size_px).rgba_VHW4)     # as `cameras` would see the mirrored mesh

The mesh stays as it is: its cameras are flipped, so that it goes to the renderer once. The light goes with a camera and
comes from the other side in a mirrored image.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from models.cameras import Camera
from models.geometry import ByteArray


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


FLIPS = tuple(Flip((x, y, z)) for x, y, z in product((1, -1), repeat=3) if min(x, y, z) < 0)
"""All seven: every way to exchange left and right, up and down, front and back."""
