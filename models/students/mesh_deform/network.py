"""The network of `mesh_deform`; see the package's docstring."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from models.students import FeatureSpec
from models.students.mesh_deform import Size
from models.students.mesh_deform.icosphere import LEVELS, icosphere, neighbours
from models.students.mesh_deform.layers import averaging, subdivided, zeroed
from models.students.mesh_deform.shape_space import LinearReader, ShapeSpace

Run = Callable[..., Any]


def _plainly(module: Callable[..., Any], *inputs: Any) -> Any:
    return module(*inputs)


class Network(nn.Module):
    """(tokens_BVHWC, present_BV) -> vertices_BN3 of the finest icosphere, float32.

    A linear reading of the tokens, corrected by the fused code, picks a whole shape from a linear space. Each level
    then moves its vertices by what they see in the tokens; the finer one starts from the coarser one's offsets.
    """

    def __init__(self, size: Size, spec: FeatureSpec) -> None:
        super().__init__()
        self.encoder = TokenEncoder(size, spec)
        self.fusion = ViewFusion(size.code, len(spec.views))
        self.space = ShapeSpace(size.rank)
        self.reader = LinearReader(spec, size.rank)
        self.mixture = zeroed(nn.Linear(size.code, size.rank))
        self.levels = nn.ModuleList(Level(size, level) for level in LEVELS)
        self.colouring = Colouring(size)

    def forward(
        self,
        tokens_BVHWC: torch.Tensor,
        present_BV: torch.Tensor,
        fold_B: torch.Tensor | None = None,
        run: Run = _plainly,
    ) -> torch.Tensor:
        """fold_B: of training items, that of the linear reader. run: calls a part that may be computed again."""
        vertices_BN3, _ = self.coloured(tokens_BVHWC, present_BV, fold_B, run)
        return vertices_BN3

    def coloured(
        self,
        tokens_BVHWC: torch.Tensor,
        present_BV: torch.Tensor,
        fold_B: torch.Tensor | None = None,
        run: Run = _plainly,
        chosen_BK: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The vertices, and colours (B, N, 3), 0 to 1: of all of them, or of the chosen ones."""
        standard_BVHWC = self.encoder.standard(tokens_BVHWC)
        local_BVLD, code_BVC = run(self.encoder, standard_BVHWC)
        code_BC = self.fusion(code_BVC, present_BV)
        seen_BK = present_BV.repeat_interleave(local_BVLD.shape[2], dim=1)
        local_BKD = local_BVLD.flatten(1, 2)
        base_BN3 = self.space(self.reader(standard_BVHWC, present_BV, fold_B) + self.mixture(code_BC))
        offset_BN3: torch.Tensor | None = None
        feature_BND: torch.Tensor | None = None
        for level in self.levels:
            offset_BN3, feature_BND = run(level, base_BN3, offset_BN3, feature_BND, code_BC, local_BKD, seen_BK)
        assert offset_BN3 is not None and feature_BND is not None
        vertices_BN3: torch.Tensor = base_BN3 + offset_BN3
        if chosen_BK is not None:
            feature_BND = feature_BND.gather(1, chosen_BK[..., None].expand(-1, -1, feature_BND.shape[-1]))
        colours_BN3: torch.Tensor = run(self.colouring, feature_BND, local_BKD, seen_BK)
        return vertices_BN3, colours_BN3


class TokenEncoder(nn.Module):
    """Shared by all views: tokens -> a smaller grid of local features (B, V, L, D) and one code a view (B, V, C)."""

    mean_C: torch.Tensor
    std_C: torch.Tensor
    rows_GH: torch.Tensor
    columns_GW: torch.Tensor

    def __init__(self, size: Size, spec: FeatureSpec) -> None:
        super().__init__()
        width, side = size.width, size.pooled
        self.register_buffer("mean_C", torch.zeros(spec.channels))
        self.register_buffer("std_C", torch.ones(spec.channels))
        self.project = nn.Linear(spec.channels, width)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.register_buffer("rows_GH", averaging(spec.grid[0], side), persistent=False)
        self.register_buffer("columns_GW", averaging(spec.grid[1], side), persistent=False)
        self.blocks = nn.ModuleList(GridBlock(width) for _ in range(size.token_blocks))
        self.place_VLD = nn.Parameter(torch.randn(len(spec.views), side * side, width) * 0.02)
        self.squeeze = nn.Linear(width, 16)
        self.code = nn.Linear(16 * side * side, size.code)

    @torch.no_grad()
    def standardise(self, items: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Take each channel's mean and deviation from the views that are present: (tokens_VHWC, present_V) an item."""
        count = torch.zeros((), dtype=torch.float64, device=self.mean_C.device)
        total = torch.zeros_like(self.mean_C, dtype=torch.float64)
        squares = torch.zeros_like(total)
        for tokens_VHWC, present_V in items:
            rows = tokens_VHWC[present_V].double().flatten(0, 2)
            count, total, squares = count + len(rows), total + rows.sum(0), squares + rows.square().sum(0)
        mean = total / count
        std = (squares / count - mean.square()).clamp(min=0).sqrt()
        self.mean_C.copy_(mean)
        self.std_C.copy_(std.clamp(min=float(std.mean()) * 0.05 + 1e-6))

    def standard(self, tokens_BVHWC: torch.Tensor) -> torch.Tensor:
        """Tokens of zero mean and unit deviation."""
        return (tokens_BVHWC - self.mean_C) / self.std_C

    def forward(self, standard_BVHWC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        batch, views = standard_BVHWC.shape[:2]
        grid_XDHW = functional.gelu(self.project(standard_BVHWC.flatten(0, 1))).permute(0, 3, 1, 2)
        grid_XDHW = functional.gelu(self.mix(grid_XDHW))
        grid_XDGG = torch.einsum("gh,xdhw,kw->xdgk", self.rows_GH, grid_XDHW, self.columns_GW)
        for block in self.blocks:
            grid_XDGG = block(grid_XDGG)
        local_XLD = grid_XDGG.flatten(2).transpose(1, 2)
        code_XC = self.code(self.squeeze(local_XLD).flatten(1))
        local_BVLD = local_XLD.reshape(batch, views, *local_XLD.shape[1:]) + self.place_VLD
        return local_BVLD, code_XC.reshape(batch, views, -1)


class GridBlock(nn.Module):
    """A residual 3x3 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, grid_XDGG: torch.Tensor) -> torch.Tensor:
        moved_XDGG: torch.Tensor = self.out(functional.gelu(self.conv(self.norm(grid_XDGG))))
        return grid_XDGG + moved_XDGG


class ViewFusion(nn.Module):
    """Codes of the views that are there -> one code: a masked attention in which a view is known by its name alone."""

    def __init__(self, width: int, num_views: int) -> None:
        super().__init__()
        self.name_VC = nn.Parameter(torch.randn(num_views, width) * 0.5)
        self.mlp = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.score = nn.Linear(width, 1)
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU())

    def forward(self, code_BVC: torch.Tensor, present_BV: torch.Tensor) -> torch.Tensor:
        named = torch.cat([code_BVC, self.name_VC.expand_as(code_BVC)], dim=-1)
        message_BVC = self.mlp(named)
        score_BV = self.score(message_BVC)[..., 0].float().masked_fill(~present_BV, -torch.inf)
        fused_BC = (score_BV.softmax(-1)[..., None] * message_BVC).sum(1)
        code_BC: torch.Tensor = self.out(fused_BC)
        return code_BC


class Level(nn.Module):
    """One resolution: take the coarser offsets and features over, look at the tokens, move the vertices further."""

    parents_M2: torch.Tensor
    waves_NF: torch.Tensor

    def __init__(self, size: Size, level: int) -> None:
        super().__init__()
        sphere = icosphere(level)
        self.register_buffer("parents_M2", torch.from_numpy(sphere.parents_M2), persistent=False)
        self.register_buffer("waves_NF", _waves(torch.from_numpy(sphere.vertices_N3)), persistent=False)
        width = size.width
        self.start = nn.Linear(self.waves_NF.shape[1] + 3, width)
        self.from_code = nn.Linear(size.code, width)
        self.look = Look(width, size.heads) if level < LEVELS[-1] else None
        self.blocks = nn.ModuleList(GraphBlock(width, sphere.faces_F3) for _ in range(size.vertex_blocks))
        self.norm = nn.LayerNorm(width)
        self.move = zeroed(nn.Linear(width, 3))

    def forward(
        self,
        base_BM3: torch.Tensor,
        offset_BN3: torch.Tensor | None,
        feature_BND: torch.Tensor | None,
        code_BC: torch.Tensor,
        local_BKD: torch.Tensor,
        seen_BK: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """base_BM3: vertices of the finest level, of which the first are this one's. offset, feature: the coarser
        level's, None at the coarsest. Returns this level's."""
        base_BN3 = base_BM3[:, : len(self.waves_NF)]
        offset_BN3 = torch.zeros_like(base_BN3) if offset_BN3 is None else subdivided(offset_BN3, self.parents_M2)
        waves = self.waves_NF.expand(len(base_BN3), -1, -1)
        place = torch.cat([waves, (base_BN3 + offset_BN3) * 4], dim=-1)
        fresh_BND = self.start(place) + self.from_code(code_BC)[:, None]
        feature_BND = fresh_BND if feature_BND is None else subdivided(feature_BND, self.parents_M2) + fresh_BND
        if self.look is not None:
            feature_BND = self.look(feature_BND, local_BKD, seen_BK)
        for block in self.blocks:
            feature_BND = block(feature_BND)
        return offset_BN3 + 0.1 * self.move(self.norm(feature_BND)).float(), feature_BND


class Colouring(nn.Module):
    """Colours of the finest level's vertices, from what they and the tokens hold for the shape's sake.

    Nothing flows back: the shape is trained as it would be without colours.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.look = Look(size.width, size.heads)
        self.norm = nn.LayerNorm(size.width)
        self.hidden = nn.Linear(size.width, size.width)
        self.out = zeroed(nn.Linear(size.width, 3))

    def forward(self, feature_BND: torch.Tensor, local_BKD: torch.Tensor, seen_BK: torch.Tensor) -> torch.Tensor:
        looked_BND = self.look(feature_BND.detach(), local_BKD.detach(), seen_BK)
        colours_BN3: torch.Tensor = self.out(functional.gelu(self.hidden(self.norm(looked_BND))))
        return torch.sigmoid(colours_BN3.float())


class Look(nn.Module):
    """Cross-attention of vertices to the tokens of the views that are there."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_query, self.norm_key = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, feature_BND: torch.Tensor, local_BKD: torch.Tensor, seen_BK: torch.Tensor) -> torch.Tensor:
        query = self._split(self.query(self.norm_query(feature_BND)))
        key, value = (self._split(part) for part in self.key_value(self.norm_key(local_BKD)).chunk(2, dim=-1))
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen_BK[:, None, None])
        added_BND: torch.Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return feature_BND + added_BND

    def _split(self, x_BND: torch.Tensor) -> torch.Tensor:
        return x_BND.reshape(*x_BND.shape[:2], self.heads, -1).transpose(1, 2)


class GraphBlock(nn.Module):
    """A residual MLP over each vertex and the mean of its neighbours."""

    neighbours_N6: torch.Tensor
    valid_N6: torch.Tensor

    def __init__(self, width: int, faces_F3: npt.NDArray[np.int64]) -> None:
        super().__init__()
        table = torch.from_numpy(neighbours(faces_F3))
        self.register_buffer("neighbours_N6", table.clamp(min=0), persistent=False)
        self.register_buffer("valid_N6", (table >= 0).float(), persistent=False)
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(2 * width, 2 * width)
        self.out = nn.Linear(2 * width, width)

    def forward(self, feature_BND: torch.Tensor) -> torch.Tensor:
        own_BND = self.norm(feature_BND)
        around_BND = _NeighbourSum.apply(own_BND, self.neighbours_N6, self.valid_N6)  # type: ignore[no-untyped-call]
        around_BND = around_BND / self.valid_N6.sum(1, keepdim=True)
        mixed = functional.gelu(self.mix(torch.cat([own_BND, around_BND], dim=-1)))
        out_BND: torch.Tensor = feature_BND + self.out(mixed)
        return out_BND


class _NeighbourSum(torch.autograd.Function):
    """The sum over each vertex's neighbours. Neighbourhood is symmetric, so the gradient is the same sum: a gather
    either way, deterministic and faster than the scatter that autograd would derive."""

    @staticmethod
    def forward(
        ctx: Any, feature_BND: torch.Tensor, neighbours_N6: torch.Tensor, valid_N6: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(neighbours_N6, valid_N6)
        return _neighbour_sum(feature_BND, neighbours_N6, valid_N6)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        neighbours_N6, valid_N6 = ctx.saved_tensors
        return _neighbour_sum(gradients[0], neighbours_N6, valid_N6), None, None


def _neighbour_sum(x_BND: torch.Tensor, neighbours_N6: torch.Tensor, valid_N6: torch.Tensor) -> torch.Tensor:
    total = torch.zeros_like(x_BND)
    for index_N, valid_N in zip(neighbours_N6.unbind(1), valid_N6.unbind(1), strict=True):
        total += x_BND.index_select(1, index_N) * valid_N[:, None].to(x_BND.dtype)
    return total


def _waves(sphere_N3: torch.Tensor) -> torch.Tensor:
    """Fourier features of the place on the sphere."""
    angles = torch.cat([sphere_N3 * torch.pi * octave for octave in (0.5, 1.0, 2.0)], dim=-1)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
