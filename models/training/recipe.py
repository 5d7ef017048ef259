"""What decides how any student is trained. Light: planning validates it without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from models.params import Block
from models.training.schedules import SCHEDULES, ScheduleName


class Recipe(Block):
    """The knobs of the training loop, in units of optimiser steps, epochs and items."""

    seed: int = Field(0, ge=0, lt=2**31)
    """Decides initial weights, order and all random draws."""
    epochs: int = Field(30, ge=1)
    """Passes over the training items."""
    batch_size: int = Field(8, ge=1)
    """Items of one optimiser step, over all processes and accumulated parts; all items where they are fewer."""
    accumulate: int = Field(1, ge=1)
    """Parts into which a batch is split to fit into memory; gradients are summed over them."""
    optimizer: Literal["adamw", "sgd", "rmsprop", "adamw8bit"] = "adamw"
    """adamw8bit keeps its moments in 8 bits; it needs the package bitsandbytes and a CUDA device."""
    learning_rate: float = Field(2e-3, gt=0)
    """The schedule's peak."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Of sgd and rmsprop."""
    weight_decay: float = Field(0.01, ge=0)
    """The optimiser's, on matrices only."""
    schedule: ScheduleName = "cosine"
    """cosine: linear warm-up, then down to 1 % of the peak. onecycle: up from 1/25 of it over 30 % of the steps, then
    down to 1/250,000 (Smith and Topin 2018, with torch's figures). constant: linear warm-up, then the peak."""
    warmup_share: float = Field(0.05, ge=0, lt=1)
    """Part of all steps in which the learning rate rises linearly; onecycle has its own."""
    clip_norm: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""
    ema_decay: float = Field(0.99, ge=0, lt=1)
    """Of the moving average of the weights, which is what is validated and kept; lower in the first steps."""
    validate_every_epochs: int = Field(5, ge=1)
    """Epochs between validations; the last epoch is always validated."""
    checkpoint_every_steps: int = Field(100, ge=1)
    """Steps between checkpoints: what a crash can cost."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of the networks' forward pass; losses and weights are float32. auto: bf16 on CUDA, fp32 on CPU. fp16 scales the
    loss, and leaves out steps whose gradients overflow."""
    gradient_checkpointing: bool = False
    """Compute parts of the network again in the backward pass instead of keeping them: less memory, a third slower."""
    num_threads: int = Field(1, ge=1)
    """CPU threads of torch. Fixed here because sums, and so the last bits of a result, depend on it."""

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate is {self.accumulate}, more than batch_size {self.batch_size}")
        return self

    def learning_rate_at(self, step: int, num_steps: int) -> float:
        """The scheduled learning rate of a step, counted from 0."""
        return self.learning_rate * SCHEDULES[self.schedule](step, num_steps, self.warmup_share)

    def ema_decay_at(self, step: int) -> float:
        """The decay, lower in the first steps so that the average forgets the initial weights."""
        return min(self.ema_decay, (1 + step) / (10 + step))
