"""The student `mesh_deform`: its examples, losses and validation around `Network`; see the package's docstring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree

from models.chamfer import chamfer
from models.geometry import Mesh, stored_points
from models.losses.surfaces import SurfaceRegularisers, distillation, sample_faces
from models.metric import Metric
from models.needs import TEACHER, TOKENS, TRUTH, Given
from models.student import Student
from models.students import Ask, FeatureSpec, Spec
from models.students.mesh_deform import SIZES, Params
from models.students.mesh_deform.icosphere import LEVELS, icosphere
from models.students.mesh_deform.network import Network
from models.students.mesh_deform.shape_space import LinearReader
from models.training.terms import Term, Terms
from models.training.trainable import Batch, Example, Examples, Group, Moment
from models.view_dropout import drop_views

CALIBRATED = 256
"""Items, the first ones, that the closed-form start is fitted to."""
STORED_POINTS = 20_000
"""Points sampled on each mesh once; every step draws from them."""
NUM_VERTICES = len(icosphere(LEVELS[-1]).vertices_N3)
COLOURED_VERTICES = 512
"""Vertices whose colours are compared at every step, each with the surface point that is nearest to it."""


DRAWN = ("teacher", "truth", "colours")
"""What is drawn from at every step, point by point."""

Outputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Stream(IntEnum):
    """What random numbers are for."""

    SURFACE = 1
    SUBSET = 2
    VIEWS = 3
    COLOURED = 4


class MeshDeform(Student):
    """A `Network`, its faces and its losses."""

    selects = (
        Metric("chamfer", "Chamfer"),
        Metric("chamfer_to_teacher", "Chamfer to the teacher", is_proxy=True),
    )

    def __init__(self, params: Params, spec: Spec, *, seed: int) -> None:
        self.spec = spec
        self._params, self._tokens = params, FeatureSpec.from_json(spec[TOKENS])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network: Network = Network(SIZES[params.preset], self._tokens)
        self._faces_F3 = torch.from_numpy(icosphere(LEVELS[-1]).faces_F3)
        self._regularisers = SurfaceRegularisers(
            self._faces_F3, edge=params.edge_weight, laplacian=params.laplacian_weight, normal=params.normal_weight
        )

    def example(self, item: Given) -> Example:
        """tokens_VHWC float16, present_V, and STORED_POINTS area-uniform points of either surface; the missing one
        counts for nothing and repeats the other."""
        tokens_VHWC, present_V = self._tokens.arrange(item(TOKENS))
        truth = item.get(TRUTH)
        teacher = item(TEACHER) if self._params.has_teacher else truth
        assert teacher is not None, "it was declared"
        teacher_P3 = stored_points(teacher, f"teach/{item.id}", STORED_POINTS)
        truth_P3 = stored_points(truth, f"ingest/{item.id}", STORED_POINTS) if truth else teacher_P3
        shown = truth or teacher
        return {
            "tokens": torch.from_numpy(tokens_VHWC),
            "present": torch.from_numpy(present_V),
            "teacher": torch.from_numpy(teacher_P3),
            "truth": torch.from_numpy(truth_P3),
            "has_truth": torch.tensor(truth is not None),
            "colours": torch.from_numpy(_colours_at(truth_P3, shown)),
            "coloured": torch.tensor(shown.colours_N4 is not None),
        }

    def groups(self) -> Sequence[Group]:
        """The colours are clipped on their own: how the shape is trained does not depend on them."""
        colouring = list(self.network.colouring.parameters())
        own = {id(parameter) for parameter in colouring}
        shape = [parameter for parameter in self.network.parameters() if id(parameter) not in own]
        return Group("shape", shape), Group("colours", colouring, clip_norm=1.0)

    def calibrate(self, examples: Examples, device: torch.device) -> None:
        """Standardise the tokens, span the shape space by the shapes' principal modes, and read these off the tokens
        as well as a linear map can. Shapes are the true ones where there are any, else the teacher's."""
        network = self.network
        every = (examples[index] for index in range(len(examples)))
        network.encoder.standardise((one["tokens"].to(device), one["present"].to(device)) for one in every)
        few = self.collate([examples[index] for index in range(min(len(examples), CALIBRATED))])
        few = {name: tensor.to(device) for name, tensor in few.items()}
        points_NP3 = torch.where(few["has_truth"][:, None, None], few["truth"], few["teacher"])
        amounts_NR = network.space.fit(points_NP3)
        fold_N = _fold(torch.arange(len(points_NP3), device=device))
        network.reader.fit(network.encoder.standard(few["tokens"].float()), few["present"], amounts_NR, fold_N)

    def prepare(self, batch: Batch, moment: Moment) -> Batch:
        """Other points at every epoch, and some views dropped; in a validation the first points and all views."""
        batch = batch | {"tokens": batch["tokens"].float()}
        if moment.is_validation:
            first = {name: batch[name][:, : self._params.validation_points] for name in DRAWN}
            return batch | first
        num_points, num_stored = self._params.num_points, batch["teacher"].shape[1]
        place_BP2 = moment.uniforms((num_points, 2), Stream.SUBSET)
        index_BP2 = (place_BP2 * num_stored).long().clamp(max=num_stored - 1)
        num_views = batch["present"].shape[1]
        rate = self._params.view_dropout
        return batch | {
            "present": drop_views(batch["present"], moment.uniforms((1 + num_views,), Stream.VIEWS), rate),
            "teacher": _pick(batch["teacher"], index_BP2[..., 0]),
            "truth": _pick(batch["truth"], index_BP2[..., 1]),
            "colours": _pick(batch["colours"], index_BP2[..., 1]),
        }

    def forward(self, batch: Batch, moment: Moment) -> Outputs:
        """Vertices (B, N, 3), which of them are coloured (B, K), and their colours (B, K, 3)."""
        place_BK = moment.uniforms((COLOURED_VERTICES,), Stream.COLOURED)
        chosen_BK = (place_BK * NUM_VERTICES).long().clamp(max=NUM_VERTICES - 1)
        vertices_BN3, colours_BK3 = self.network.coloured(
            batch["tokens"], batch["present"], _fold(moment.items_B), moment.run, chosen_BK
        )
        return vertices_BN3, chosen_BK, colours_BK3

    def loss(self, outputs: Outputs, batch: Batch, moment: Moment) -> Terms:
        vertices_BN3, chosen_BK, colours_BK3 = outputs
        sampled_BP3 = self._sample(vertices_BN3, batch["teacher"].shape[1], moment)
        alpha = self._params.alpha_at(moment.progress)
        terms = distillation(sampled_BP3, batch["teacher"], batch["truth"], batch["has_truth"], alpha)
        colour = _colour_error(_pick(vertices_BN3.detach(), chosen_BK), colours_BK3, batch)
        return {**terms, **self._regularisers.terms(vertices_BN3), "colour": Term(colour, colour)}

    def validate(self, batch: Batch, moment: Moment) -> Mapping[str, torch.Tensor]:
        """Chamfer to the truth, or to the teacher of the items that have none."""
        vertices_BN3 = self.network(batch["tokens"], batch["present"])
        sampled_BP3 = self._sample(vertices_BN3, batch["truth"].shape[1], moment)
        error_B = chamfer(sampled_BP3, batch["truth"], reduction="none")  # without truth, that is the teacher again
        nan = torch.full_like(error_B, torch.nan)
        has_truth_B = batch["has_truth"]
        return {
            "chamfer": torch.where(has_truth_B, error_B, nan),
            "chamfer_to_teacher": torch.where(has_truth_B, nan, error_B),
        }

    def predict(self, item: Given, ask: Ask) -> Mesh:
        tokens_VHWC, present_V = self._tokens.arrange(item(TOKENS))
        device = self.network.encoder.mean_C.device
        self.network.eval()
        with torch.inference_mode():
            tokens_1VHWC = torch.from_numpy(tokens_VHWC).to(device).float()[None]
            vertices_1N3, colours_1N3 = self.network.coloured(
                tokens_1VHWC, torch.from_numpy(present_V).to(device)[None]
            )
        faces_F3 = self._faces_F3.numpy().astype(np.int32)
        return Mesh(vertices_1N3[0].cpu().numpy(), faces_F3, _rgba(colours_1N3[0].cpu().numpy()))

    def _sample(self, vertices_BN3: torch.Tensor, num_points: int, moment: Moment) -> torch.Tensor:
        """Points (B, P, 3) on the predicted surfaces, area-uniform."""
        place_BP3 = moment.uniforms((num_points, 3), Stream.SURFACE)
        return sample_faces(vertices_BN3, self._faces_F3.to(vertices_BN3.device), place_BP3)


def _fold(item_B: torch.Tensor) -> torch.Tensor:
    """The fold of the linear reader that a training item belongs to."""
    return torch.where(item_B < CALIBRATED, item_B % LinearReader.FOLDS, LinearReader.FOLDS)


def _colours_at(points_P3: npt.NDArray[np.float32], mesh: Mesh) -> npt.NDArray[np.uint8]:
    """Colours (P, 3) of the mesh's vertices that are nearest to points on it; zeros where it has none."""
    if mesh.colours_N4 is None:
        return np.zeros(points_P3.shape, np.uint8)
    _, nearest_P = cKDTree(mesh.vertices_N3).query(points_P3)
    return np.ascontiguousarray(mesh.colours_N4[nearest_P, :3])


def _colour_error(vertices_BK3: torch.Tensor, colours_BK3: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Mean difference of vertices' colours to those of the surface's points that are nearest to them."""
    nearest_BK = torch.cdist(vertices_BK3, batch["truth"]).argmin(-1)
    wanted_BK3 = _pick(batch["colours"], nearest_BK).float() / 255
    error_B = (colours_BK3 - wanted_BK3).abs().mean((1, 2))
    return (error_B * batch["coloured"]).mean()


def _rgba(colours_N3: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    opaque_N1 = np.full((len(colours_N3), 1), 255, np.uint8)
    return np.concatenate([np.rint(colours_N3 * 255).astype(np.uint8), opaque_N1], axis=1)


def _pick(points_BM3: torch.Tensor, index_BP: torch.Tensor) -> torch.Tensor:
    return points_BM3.gather(1, index_BP[..., None].expand(-1, -1, 3))
