"""The student `field`: its examples, losses and validation around `Network`; see the package's docstring."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

import torch

from models.fields import cell_centres
from models.geometry import Mesh
from models.metric import Metric
from models.needs import FIELD, TOKENS, VIEWS, Given
from models.student import Student
from models.students import Ask, FeatureSpec, Spec
from models.students.field import SIZES, Params
from models.students.field.casting import cast
from models.students.field.evidence import Seen
from models.students.field.examples import observed, reach, targets
from models.students.field.network import Network
from models.students.field.shape_space import FOLDS
from models.training.terms import Term, Terms
from models.training.trainable import Batch, Example, Examples, Moment
from models.view_dropout import drop_views

NEAR = 0.03
"""How far near the surface reaches, in world units."""
INSIDE_WEIGHT, FAR_WEIGHT = 2.0, 0.4
"""Of errors at points inside near the surface, and at those that are not near it, against 1 just outside. A thin wall
has more points around it than in it: by a plain mean they would vote it away."""


class Stream(IntEnum):
    """What random numbers are for."""

    VIEWS = 1
    SIDE = 2
    CAMERAS = 3
    NEAR = 4
    BAND = 5
    FAR = 6


class FieldStudent(Student):
    """A `Network`, what it is asked for and how its answers are judged."""

    selects = (Metric("distance_error", "Error of the distances near the surface", digits=5),)

    def __init__(self, params: Params, spec: Spec, *, seed: int) -> None:
        self.spec = spec
        self._params, self._tokens = params, FeatureSpec.from_json(spec[TOKENS])
        self._size_px, field = int(spec[VIEWS]["size_px"]), spec[FIELD]
        self._reach = reach(field["truncation"])
        self._axis_R = torch.from_numpy(cell_centres(field["resolution"])).float()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network: Network = Network(SIZES[params.preset], self._tokens)

    def example(self, item: Given) -> Example:
        return observed(self._tokens, item(TOKENS), item(VIEWS), self._size_px) | targets(item(FIELD))

    def calibrate(self, examples: Examples, device: torch.device) -> None:
        """Fit the shape space, and take the tokens' mean and scale, of as many items as it holds."""
        kept = range(min(len(examples), self.network.space.capacity))
        batch = {name: tensor.to(device) for name, tensor in self.collate([examples[index] for index in kept]).items()}
        seen = Seen.of(batch)
        self.network.standardise(seen)
        self.network.space.fit(seen, batch["coarse"].float())

    def prepare(self, batch: Batch, moment: Moment) -> Batch:
        """Other points at every epoch, some views dropped and some cameras unknown; in a validation, all is shown."""
        points = self._draw_points(batch, moment)
        seen = {name: batch[name] for name in ("tokens", "present", "placed", "silhouettes", "rgb", "projections")}
        if not moment.is_validation:
            seen |= self._hide(batch, moment)
        return {**seen, **points}

    def forward(self, batch: Batch, moment: Moment) -> tuple[torch.Tensor, torch.Tensor]:
        """Distances (B, P) and colours (B, P, 3)."""
        item_B = moment.items_B
        fold_B = torch.where(item_B < self.network.space.capacity, item_B % FOLDS, -1)
        outputs: tuple[torch.Tensor, torch.Tensor] = moment.run(self.network, Seen.of(batch), fold_B, batch["points"])
        return outputs

    def loss(self, outputs: tuple[torch.Tensor, torch.Tensor], batch: Batch, moment: Moment) -> Terms:
        """Mean absolute differences, of distances up to the truncation, and of colours at the surface."""
        distance_BP, colour_BP3 = outputs
        near_BP = torch.where(batch["distances"] < 0, INSIDE_WEIGHT, 1.0)
        weight_BP = torch.where(batch["distances"].abs() < NEAR, near_BP, FAR_WEIGHT)
        distance = (self._error(distance_BP, batch) * weight_BP).mean()
        shown_BK3 = colour_BP3[:, : self._params.near_points]
        of_items_B = (shown_BK3 - batch["colours"]).abs().mean((1, 2)) * batch["coloured"]
        colour = of_items_B.mean()
        return {
            "distance": Term(distance, distance),
            "colour": Term(colour, self._params.colour_weight * colour),
        }

    def validate(self, batch: Batch, moment: Moment) -> Mapping[str, torch.Tensor]:
        fold_B = torch.full_like(moment.items_B, -1)
        distance_BP, _ = self.network(Seen.of(batch), fold_B, batch["points"])
        near_BP = (batch["distances"].abs() < NEAR).float()
        return {"distance_error": (self._error(distance_BP, batch) * near_BP).sum(1) / near_BP.sum(1)}

    def predict(self, item: Given, ask: Ask) -> Mesh:
        """A coloured mesh. Raises BadInput for views that it does not know, EmptyOutput for a field without surface."""
        example = observed(self._tokens, item(TOKENS), item(VIEWS), self._size_px)
        device = self.network.scale.device
        self.network.eval()
        seen = Seen.of({name: tensor.to(device)[None] for name, tensor in example.items()})
        return cast(self.network, seen, max_points=self._params.max_points)

    def _error(self, distance_BP: torch.Tensor, batch: Batch) -> torch.Tensor:
        limits = (-self._reach, self._reach)
        return (distance_BP.clamp(*limits) - batch["distances"].clamp(*limits)).abs()

    def _hide(self, batch: Batch, moment: Moment) -> Batch:
        """Views and cameras as a user's photos may lack them."""
        params, num_views = self._params, batch["present"].shape[1]
        present_BV = drop_views(batch["present"], moment.uniforms((1 + num_views,), Stream.VIEWS), params.view_dropout)
        side_BW = moment.uniforms((1 + num_views,), Stream.SIDE)
        lone_B1 = side_BW[:, :1] < params.unknown_side
        first_B1 = torch.where(batch["present"], side_BW[:, 1:], -1.0).argmax(1, keepdim=True)
        only_BV = torch.zeros_like(present_BV).scatter(1, first_B1, True)
        named_B = moment.uniforms((1,), Stream.CAMERAS)[:, 0] < params.unknown_cameras
        return {
            "present": torch.where(lone_B1, only_BV, present_BV),
            "placed": batch["placed"] & ~lone_B1,
            "projections": torch.where(named_B[:, None, None, None], batch["named"], batch["projections"]),
        }

    def _draw_points(self, batch: Batch, moment: Moment) -> Batch:
        """Points (B, P, 3), first those near the surface, with their true distances and, of the first, colours."""
        params = self._params

        def places(num: int, count: int, stream: Stream) -> torch.Tensor:
            return (moment.uniforms((num,), stream) * count).long().clamp(max=count - 1)

        near_BK = places(params.near_points, batch["near"].shape[1], Stream.NEAR)
        band_BK = places(params.band_points, batch["band"].shape[1], Stream.BAND)
        far_BK = places(params.far_points, batch["field"].shape[1], Stream.FAR)
        cell_BP = torch.cat([batch["near"].gather(1, near_BK), batch["band"].gather(1, band_BK), far_BK], dim=1).long()
        axis_R, side = self._axis_R.to(cell_BP.device), len(self._axis_R)
        index_BP3 = torch.stack([cell_BP // side**2, cell_BP // side % side, cell_BP % side], dim=-1)
        return {
            "points": axis_R[index_BP3],
            "distances": batch["field"].gather(1, cell_BP).float(),
            "colours": batch["colours"].gather(1, near_BK[..., None].expand(-1, -1, 3)).float() / 255,
            "coloured": batch["coloured"],
        }
