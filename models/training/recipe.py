"""What decides how a student is trained. Light: planning validates it without torch."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from models.params import Block

ALPHA_PRESETS = {"balanced": (0.9, 0.3), "conservative": (0.95, 0.5), "aggressive": (0.8, 0.2)}


class Recipe(Block):
    """The knobs of the training loop, in units of optimiser steps, epochs and items."""

    seed: int = Field(0, ge=0, lt=2**31)
    """Decides initial weights, order, samples and dropped views."""
    epochs: int = Field(30, ge=1)
    """Passes over the training items."""
    batch_size: int = Field(8, ge=1)
    """Items of one optimiser step, over all processes and accumulated parts; all items where they are fewer."""
    accumulate: int = Field(1, ge=1)
    """Parts into which a batch is split to fit into memory; gradients are summed over them."""
    learning_rate: float = Field(2e-3, gt=0)
    """Peak of AdamW's learning rate, reached after the warm-up, then lowered by a cosine to 1 % of it."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's, on matrices only."""
    warmup_share: float = Field(0.05, ge=0, lt=1)
    """Part of all steps in which the learning rate rises linearly."""
    clip_norm: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""
    ema_decay: float = Field(0.99, ge=0, lt=1)
    """Of the moving average of the weights, which is what is validated and kept; lower in the first steps."""
    alpha: Literal["balanced", "conservative", "aggressive"] = "balanced"
    """The teacher's share of the loss, start -> end: balanced .9 -> .3, conservative .95 -> .5, aggressive .8 -> .2."""
    alpha_start: float | None = Field(None, ge=0, le=1)
    """Overrides the preset's start."""
    alpha_end: float | None = Field(None, ge=0, le=1)
    """Overrides the preset's end."""
    num_points: int = Field(2_000, ge=16)
    """Points sampled on the student and on each target at every step."""
    view_dropout: float = Field(0.3, ge=0, le=1)
    """How often an item is shown with a random part of its views, so that one photo suffices later."""
    validate_every_epochs: int = Field(5, ge=1)
    """Epochs between validations; the last epoch is always validated."""
    validation_points: int = Field(10_000, ge=16, le=20_000)
    """Fixed points on either side of the validation Chamfer."""
    checkpoint_every_steps: int = Field(100, ge=1)
    """Steps between checkpoints: what a crash can cost."""
    amp: bool = True
    """bfloat16 autocast of the network on CUDA; never on CPU."""
    num_threads: int = Field(1, ge=1)
    """CPU threads of torch. Fixed here because sums, and so the last bits of a result, depend on it."""

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate is {self.accumulate}, more than batch_size {self.batch_size}")
        return self

    @property
    def alpha_range(self) -> tuple[float, float]:
        start, end = ALPHA_PRESETS[self.alpha]
        return (
            start if self.alpha_start is None else self.alpha_start,
            end if self.alpha_end is None else self.alpha_end,
        )

    def alpha_at(self, progress: float) -> float:
        """The teacher's share at progress 0..1: end + (start - end)(1 - progress)."""
        start, end = self.alpha_range
        return end + (start - end) * (1 - progress)

    def learning_rate_at(self, step: int, num_steps: int) -> float:
        """Linear warm-up, then a cosine down to 1 % of the peak."""
        warmup = round(self.warmup_share * num_steps)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        progress = (step - warmup) / max(num_steps - warmup, 1)
        return self.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)

    def ema_decay_at(self, step: int) -> float:
        """The decay, lower in the first steps so that the average forgets the initial weights."""
        return min(self.ema_decay, (1 + step) / (10 + step))
