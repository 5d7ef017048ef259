"""The ellipsoid whose silhouettes have the moments of the seen ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.cameras import Camera
from models.errors import BadInput
from models.geometry import Mesh

PRIOR_WEIGHT = 1e-3
"""Pull towards the start: settles what the views leave open (depth, where there is but one view)."""
START_RADIUS = 0.35
"""Of the centred sphere that the fit starts from."""

Float64 = npt.NDArray[np.float64]


def fit_ellipsoid(masks_VHW: npt.NDArray[np.bool_], cameras: tuple[Camera, ...], subdivisions: int = 4) -> Mesh:
    """Least-squares ellipsoid: the centre and second moments of its projections match those of the square masks.

    An ellipsoid projects to an ellipse exactly (dual quadric to dual conic, C* = P Q* P^T). Raises BadInput where
    every mask is empty.
    """
    from scipy.optimize import least_squares

    seen = [(camera, mask) for camera, mask in zip(cameras, masks_VHW, strict=True) if mask.any()]
    if not seen:
        raise BadInput("every silhouette is empty: there is nothing to fit an ellipsoid to")
    ellipses = [_moments(mask) for _, mask in seen]
    projections = [camera.intrinsics_33 @ camera.world_to_camera_44[:3] for camera, _ in seen]
    start_9 = np.concatenate([np.zeros(3), _packed(START_RADIUS * np.eye(3))])

    def residuals(parameters_9: Float64) -> Float64:
        centre_3, factor_33 = parameters_9[:3], _unpacked(parameters_9[3:])
        misfits = [
            _misfit(_projected(projection, centre_3, factor_33), ellipse)
            for projection, ellipse in zip(projections, ellipses, strict=True)
        ]
        return np.concatenate([*misfits, PRIOR_WEIGHT * (parameters_9 - start_9)])

    fitted_9 = least_squares(residuals, start_9).x
    return _ellipsoid_mesh(fitted_9[:3], _unpacked(fitted_9[3:]), subdivisions)


@dataclass(frozen=True)
class Ellipse:
    """{p: (p - centre)^T shape^-1 (p - centre) <= 1}, in pixels and squared pixels."""

    centre_2: Float64
    shape_22: Float64


def _moments(mask_HW: npt.NDArray[np.bool_]) -> Ellipse:
    """The ellipse with the centre and the second moments of the mask."""
    y_N, x_N = np.nonzero(mask_HW)
    pixels_2N = np.stack([x_N, y_N]) + 0.5
    covariance_22 = np.cov(pixels_2N, bias=True) + np.eye(2) / 12
    return Ellipse(pixels_2N.mean(axis=1), 4 * covariance_22)


def _projected(projection_34: Float64, centre_3: Float64, factor_33: Float64) -> Ellipse:
    """The outline of the ellipsoid {centre + factor u, |u| = 1}."""
    centre_4 = np.append(centre_3, 1.0)
    dual_quadric_44 = -np.outer(centre_4, centre_4)
    dual_quadric_44[:3, :3] += factor_33 @ factor_33.T
    dual_conic_33 = projection_34 @ dual_quadric_44 @ projection_34.T
    dual_conic_33 /= -dual_conic_33[2, 2]
    centre_2 = -dual_conic_33[:2, 2]
    return Ellipse(centre_2, dual_conic_33[:2, :2] + np.outer(centre_2, centre_2))


def _misfit(drawn: Ellipse, seen: Ellipse) -> Float64:
    """Five numbers, 0 where the ellipses agree, relative to the seen axes: thin objects count as much as round."""
    whiten_22 = np.linalg.inv(np.linalg.cholesky(seen.shape_22))
    shape_22 = whiten_22 @ drawn.shape_22 @ whiten_22.T - np.eye(2)
    return np.append(whiten_22 @ (drawn.centre_2 - seen.centre_2), shape_22[np.tril_indices(2)])


def _packed(factor_33: Float64) -> Float64:
    return factor_33[np.tril_indices(3)]


def _unpacked(lower_6: Float64) -> Float64:
    factor_33 = np.zeros((3, 3))
    factor_33[np.tril_indices(3)] = lower_6
    return factor_33


def _ellipsoid_mesh(centre_3: Float64, factor_33: Float64, subdivisions: int) -> Mesh:
    import trimesh

    sphere = trimesh.creation.icosphere(subdivisions=subdivisions, radius=1.0)
    faces_F3 = sphere.faces if np.linalg.det(factor_33) > 0 else sphere.faces[:, ::-1]
    vertices_N3 = centre_3 + np.asarray(sphere.vertices) @ factor_33.T
    return Mesh(vertices_N3.astype(np.float32), np.asarray(faces_F3, np.int32))
