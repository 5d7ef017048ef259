"""The distillation loss of students that predict meshes.

    total = alpha x Chamfer(student, teacher) + (1 - alpha) x Chamfer(student, truth)
          + edge + Laplacian + normal consistency

alpha falls over training; an item without truth keeps alpha = 1. The student's faces are sampled, N points against N:
comparing its vertices instead would favour meshes whose vertices crowd where the target's points are.
"""

from __future__ import annotations

import torch
from pytorch3d.loss import mesh_edge_loss, mesh_laplacian_smoothing, mesh_normal_consistency
from pytorch3d.structures import Meshes

from models.chamfer import chamfer
from models.training.terms import Term, Terms


def distillation(
    sampled_BP3: torch.Tensor,
    teacher_BP3: torch.Tensor,
    truth_BP3: torch.Tensor,
    has_truth_B: torch.Tensor,
    alpha: float,
) -> Terms:
    """The terms `teacher` and `truth`: Chamfer of the student's samples to either, mixed by alpha for each item.

    Where `has_truth_B` is False alpha is 1 and `truth_BP3` counts for nothing (give any finite points).
    Raw `truth` is the mean over the items that have one, 0 where none has.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; it must lie in [0, 1]")
    has_truth = has_truth_B.to(sampled_BP3.dtype)
    alpha_B = 1 - (1 - alpha) * has_truth
    to_teacher_B = chamfer(sampled_BP3, teacher_BP3, reduction="none")
    to_truth_B = chamfer(sampled_BP3, truth_BP3, reduction="none")
    return {
        "teacher": Term(to_teacher_B.mean(), (alpha_B * to_teacher_B).mean()),
        "truth": Term(
            (to_truth_B * has_truth).sum() / has_truth.sum().clamp(min=1), ((1 - alpha_B) * to_truth_B).mean()
        ),
    }


class SurfaceRegularisers:
    """pytorch3d's edge, Laplacian and normal-consistency losses for meshes that share one topology.

    The structures of that topology (edges, Laplacian) are built once for each batch size, not at every step.
    """

    def __init__(self, faces_F3: torch.Tensor, *, edge: float, laplacian: float, normal: float) -> None:
        self._faces_F3 = faces_F3
        self._weights = {"edge": edge, "laplacian": laplacian, "normal": normal}
        self._templates: dict[tuple[int, torch.device], Meshes] = {}

    def terms(self, vertices_BN3: torch.Tensor) -> Terms:
        meshes = self._template(vertices_BN3).update_padded(vertices_BN3)
        raw = {
            "edge": mesh_edge_loss(meshes),
            "laplacian": mesh_laplacian_smoothing(meshes, method="uniform"),
            "normal": mesh_normal_consistency(meshes),
        }
        return {name: Term(value, self._weights[name] * value) for name, value in raw.items()}

    def _template(self, vertices_BN3: torch.Tensor) -> Meshes:
        key = len(vertices_BN3), vertices_BN3.device
        if key not in self._templates:
            faces = self._faces_F3.to(vertices_BN3.device).expand(len(vertices_BN3), -1, -1)
            template = Meshes(verts=vertices_BN3.detach(), faces=faces)
            with torch.sparse.check_sparse_tensor_invariants(False):  # type: ignore[no-untyped-call]
                template.edges_packed(), template.laplacian_packed()
            self._templates[key] = template
        return self._templates[key]


def sample_faces(vertices_BN3: torch.Tensor, faces_F3: torch.Tensor, uniforms_BP3: torch.Tensor) -> torch.Tensor:
    """Area-uniform points (B, P, 3) on meshes of one topology, differentiable in the vertices.

    uniforms_BP3: numbers in [0, 1) that decide the face and the place in it. As
    `pytorch3d.ops.sample_points_from_meshes`, which draws from the global generator: then an item's points would
    depend on the batch and the process that it falls in.
    """
    corners = [_take(vertices_BN3, faces_F3[:, corner]) for corner in range(3)]
    with torch.no_grad():
        a, b, c = corners
        areas_BF = torch.linalg.vector_norm(torch.linalg.cross((b - a).double(), (c - a).double()), dim=-1)
        cumulated_BF = areas_BF.cumsum(-1)
        place_BP = uniforms_BP3[..., 0].double() * cumulated_BF[:, -1:]
        face_BP = torch.searchsorted(cumulated_BF, place_BP, right=True).clamp(max=len(faces_F3) - 1)
        root = uniforms_BP3[..., 1].sqrt()
        weights = (1 - root, root * (1 - uniforms_BP3[..., 2]), root * uniforms_BP3[..., 2])
    points = torch.zeros_like(uniforms_BP3)
    for corner, weight_BP in enumerate(weights):
        vertex_BP = faces_F3[:, corner][face_BP]
        points = points + weight_BP[..., None] * vertices_BN3.gather(1, vertex_BP[..., None].expand(-1, -1, 3))
    return points


def _take(vertices_BN3: torch.Tensor, index_F: torch.Tensor) -> torch.Tensor:
    return vertices_BN3.detach()[:, index_F]
