"""The training loop: from a student and its shapes to the best averaged weights, resumable at any moment."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.chamfer import chamfer
from models.losses import Terms, total
from models.students import Student
from models.training.checkpoints import Checkpoint, Checkpoints
from models.training.data import ShapeSet, draw_batch
from models.training.distributed import ALONE, World
from models.training.ema import Ema
from models.training.memory import Exceeded, Fit, attempt
from models.training.recipe import Recipe
from models.training.sampler import Stream, batch_indices, steps_per_epoch, uniforms

log = logging.getLogger(__name__)

DIVERGED = "the training diverged: lower `learning_rate` or `clip_norm`"

Row = dict[str, Any]
State = dict[str, torch.Tensor]


@dataclass
class History:
    """steps: one row an optimiser step: loss, gradient norm, learning rate, alpha, each term raw and weighted.
    epochs: one row an epoch: mean loss, and where it was validated the validation Chamfer."""

    steps: list[Row] = field(default_factory=list)
    epochs: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """state: weights of the student as validated best (averaged). val_chamfer: None without validation items, then
    the last weights are kept. val_is_proxy: it was measured to the teacher, for want of truth. fit: how batches were
    split in the end, to fit into memory (see `Fit.figures`); it depends on the machine."""

    state: State
    history: History
    num_steps: int
    val_chamfer: float | None
    val_is_proxy: bool
    fit: dict[str, Any]


def train(
    student: Student,
    shapes: ShapeSet,
    validation: ShapeSet | None,
    recipe: Recipe,
    *,
    device: str,
    folder: Path,
    config: dict[str, Any],
    progress: Callable[[str], None],
    board: Path | None = None,
    world: World = ALONE,
    start: State | None = None,
) -> Result:
    """Train the student in place; continue from the newest checkpoint in `folder` where there is one.

    config: what the checkpoints must agree on to be continued, beside the recipe (JSON). board: a folder for
    TensorBoard. start: the whole state of a student to go out from, in place of the initial weights and of what
    `calibrate` measures. On CPU the result does not depend on where a training was interrupted, to the last bit.

    Out of memory, a single process splits its batches further and says so; that changes results by rounding. Raises
    FloatingPointError when it diverges, ItemFailed when not even one item at a time fits into memory, ValueError for
    shapes or settings that cannot be trained.
    """
    if len(shapes) == 0:
        raise ValueError("no shapes to train on")
    checkpoints = Checkpoints(folder, {"recipe": recipe.model_dump(), **config})
    with _reproducible(recipe, device):
        training = _Training(student, shapes, validation, recipe, torch.device(device), checkpoints, world, start)
        with _writer(board if world.rank == 0 else None, training.step) as write:
            return training.run(progress, write)


class _Training:
    def __init__(
        self,
        student: Student,
        shapes: ShapeSet,
        validation: ShapeSet | None,
        recipe: Recipe,
        device: torch.device,
        checkpoints: Checkpoints,
        world: World,
        start: State | None,
    ) -> None:
        self.student, self.recipe, self.device, self.world = student, recipe, device, world
        self.shapes = shapes.to(device)
        self.validator = Validator(student, validation.to(device), recipe) if validation else None
        self.batch_size = min(recipe.batch_size, len(shapes))
        if self.batch_size < recipe.accumulate * world.size:
            raise ValueError(
                f"a batch of {self.batch_size} items cannot be split into accumulate {recipe.accumulate} x "
                f"{world.size} processes; lower `accumulate` or raise `batch_size`"
            )
        self.steps_per_epoch = steps_per_epoch(len(shapes), self.batch_size)
        self.num_steps = recipe.epochs * self.steps_per_epoch
        self.fit = Fit(
            checkpoints.folder,
            device,
            batch=self.batch_size // world.size,
            accumulate=recipe.accumulate,
            validation_batch=Validator.BATCH,
        )

        self.network = student.network.to(device)
        if start is None:
            student.calibrate(self.shapes)
        else:
            self.network.load_state_dict(start)
        self.optimizer = _optimizer(self.network, recipe)
        self.ema = Ema(self.network)
        self.step = 0
        self.history = History()
        self.best: tuple[float, State] | None = None
        self.checkpoints = checkpoints
        self._pending: list[tuple[Row, list[str], torch.Tensor]] = []
        self._resume()
        self.model = world.wrap(self.network)

    def run(self, progress: Callable[[str], None], write: Callable[[Row], None]) -> Result:
        self.network.train()
        while self.step < self.num_steps:
            self._take_step(progress)
            self.step += 1
            epoch_ends = self.step % self.steps_per_epoch == 0
            checkpoint_due = self.step % self.recipe.checkpoint_every_steps == 0 or self.step == self.num_steps
            if epoch_ends or checkpoint_due:
                self._collect(write)
            if epoch_ends:
                progress(self._finish_epoch(write, progress))
            if checkpoint_due and self.world.rank == 0:
                self._save()
        self.world.barrier()
        state = self.best[1] if self.best else self.ema.state_dict(self.network)
        self.network.load_state_dict(state)
        return Result(
            state={name: tensor.detach().cpu() for name, tensor in state.items()},
            history=self.history,
            num_steps=self.num_steps,
            val_chamfer=self.best[0] if self.best else None,
            val_is_proxy=self.validator.is_proxy if self.validator else False,
            fit=self.fit.figures(),
        )

    def _take_step(self, progress: Callable[[str], None]) -> None:
        recipe, step = self.recipe, self.step
        epoch = step // self.steps_per_epoch
        learning_rate = recipe.learning_rate_at(step, self.num_steps)
        alpha = recipe.alpha_at(step / max(self.num_steps - 1, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        random = _rng_state(self.device)
        while isinstance(found := attempt(lambda: self._accumulate(epoch, alpha)), Exceeded):
            if self.world.size > 1:
                raise found.error(f"at step {step + 1} in one of several processes: raise `accumulate`")
            progress(self.fit.split_further(found, step + 1))
            _restore_rng(random, self.device)
        names, values = found
        if isinstance(exceeded := attempt(lambda: self.optimizer.step()), Exceeded):
            what = f"in the optimiser at step {step + 1}: take a smaller student, or a device with more memory"
            raise exceeded.error(what)
        self.ema.update(self.network, recipe.ema_decay_at(step))
        row = {"step": step + 1, "epoch": epoch + 1, "learning_rate": learning_rate, "alpha": alpha}
        self._pending.append((row, names, values))

    def _accumulate(self, epoch: int, alpha: float) -> tuple[list[str], torch.Tensor]:
        """The batch's gradients, clipped. Returns the names of the loss's terms, and their sums before the norm."""
        self.optimizer.zero_grad(set_to_none=True)
        indices = batch_indices(len(self.shapes), self.batch_size, self.step, seed=self.recipe.seed)
        mine = np.array_split(indices, self.world.size)[self.world.rank]
        parts = np.array_split(mine, self.fit.accumulate)
        sums: list[torch.Tensor] = []
        for number, part in enumerate(parts):
            share = len(part) / len(indices)
            terms = self._backward(part, epoch, alpha, share, last=number == len(parts) - 1)
            sums.append(share * _stack(terms))
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)
        return list(terms), torch.cat([self.world.sum(torch.stack(sums).sum(0)), norm.detach().reshape(1)])

    def _backward(self, part: Any, epoch: int, alpha: float, share: float, *, last: bool) -> Terms:
        recipe = self.recipe
        batch = draw_batch(
            self.shapes,
            torch.from_numpy(part).to(self.device),
            seed=recipe.seed,
            epoch=epoch,
            num_points=recipe.num_points,
            view_dropout=recipe.view_dropout,
        )
        with nullcontext() if last else self.world.without_sync(self.model):
            with _autocast(recipe, self.device):
                outputs = self.model(*self.student.inputs(batch))
            try:
                terms = self.student.loss(outputs, batch, alpha)
            except FloatingPointError as error:
                raise FloatingPointError(f"{error} at step {self.step + 1}; {DIVERGED}") from error
            (total(terms) * share * self.world.size).backward()  # type: ignore[no-untyped-call]
        return terms

    def _collect(self, write: Callable[[Row], None]) -> None:
        """Bring the pending steps' figures to the host, in one transfer, and check them."""
        if not self._pending:
            return
        fetched = torch.stack([values for _, _, values in self._pending]).double().cpu().numpy()
        for (row, names, _), values in zip(self._pending, fetched, strict=True):
            raw, weighted = values[: len(names)], values[len(names) : -1]
            row["loss"] = float(weighted.sum())
            row["gradient_norm"] = float(values[-1])
            row["raw"] = dict(zip(names, map(float, raw), strict=True))
            row["weighted"] = dict(zip(names, map(float, weighted), strict=True))
            if not np.isfinite(values).all():
                raise FloatingPointError(
                    f"loss {row['loss']} and gradient norm {row['gradient_norm']} are not finite "
                    f"at step {row['step']}; {DIVERGED}"
                )
            self.history.steps.append(row)
            write(row)
        self._pending.clear()

    def _finish_epoch(self, write: Callable[[Row], None], progress: Callable[[str], None]) -> str:
        epoch = self.step // self.steps_per_epoch
        loss = float(np.mean([row["loss"] for row in self.history.steps[-self.steps_per_epoch :]]))
        row: Row = {"epoch": epoch, "step": self.step, "loss": loss}
        line = f"epoch {epoch}/{self.recipe.epochs} loss {loss:.4f}"
        due = epoch % self.recipe.validate_every_epochs == 0 or epoch == self.recipe.epochs
        if self.validator and due:
            state = self.ema.state_dict(self.network)
            row["val_chamfer"] = error = self._validate(self.validator, state, progress)
            line += f" val {error:.4f}{' (proxy)' if self.validator.is_proxy else ''}"
            if self.best is None or error < self.best[0]:
                self.best = error, {name: tensor.detach().clone() for name, tensor in state.items()}
        self.history.epochs.append(row)
        write(row)
        return line

    def _validate(self, validator: Validator, state: State, progress: Callable[[str], None]) -> float:
        while isinstance(error := attempt(lambda: validator.measure(state, self.fit.validation_batch)), Exceeded):
            progress(self.fit.validate_fewer(error))
        return error

    def _save(self) -> None:
        optimizer_state = {
            f"{name}.{key}": value
            for name, parameter in self.network.named_parameters()
            for key, value in self.optimizer.state[parameter].items()
        }
        groups: dict[str, State] = {
            "model": self.network.state_dict(),
            "ema": self.ema.average,
            "best": self.best[1] if self.best else {},
            "optimizer": optimizer_state,
            "rng": _rng_state(self.device),
        }
        tensors = {f"{group}.{name}": value for group, state in groups.items() for name, value in state.items()}
        facts = {
            "step": self.step,
            "steps": self.history.steps,
            "epochs": self.history.epochs,
            "best": self.best[0] if self.best else None,
        }
        self.checkpoints.save(self.step, Checkpoint(tensors, facts))

    def _resume(self) -> None:
        checkpoint = self.checkpoints.load_latest()
        if checkpoint is None:
            return
        self.network.load_state_dict(checkpoint.group("model"))
        for name, value in checkpoint.group("ema").items():
            self.ema.average[name].copy_(value)
        moments = checkpoint.group("optimizer")
        for name, parameter in self.network.named_parameters():
            fields = {key: moments[f"{name}.{key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
            self.optimizer.state[parameter] = {
                key: value if key == "step" else value.to(self.device) for key, value in fields.items()
            }
        _restore_rng(checkpoint.group("rng"), self.device)
        self.step = checkpoint.facts["step"]
        self.history = History(checkpoint.facts["steps"], checkpoint.facts["epochs"])
        if checkpoint.facts["best"] is not None:
            best = {name: value.to(self.device) for name, value in checkpoint.group("best").items()}
            self.best = checkpoint.facts["best"], best
        log.info("training continues at step %d of %d", self.step, self.num_steps)


class Validator:
    """Chamfer to the truth of the items that have one, or, where none has, to the teacher (`is_proxy`).

    All views, fixed points: equal weights give equal figures.
    """

    BATCH = 8
    """Items at once."""

    def __init__(self, student: Student, shapes: ShapeSet, recipe: Recipe) -> None:
        self.student, self.recipe = student, recipe
        self.is_proxy = not bool(shapes.has_truth_N.any())
        self.shapes = shapes if self.is_proxy else shapes.select(shapes.has_truth_N.nonzero()[:, 0])

    def measure(self, state: State, batch: int = BATCH) -> float:
        """The mean over the items, `batch` of them at once."""
        return float(self.errors(state, batch).double().mean())

    @torch.no_grad()
    def errors(self, state: State, batch: int = BATCH) -> torch.Tensor:
        """Chamfer of each item (N,) under these weights."""
        network = self.student.network.eval()
        errors = []
        every_N = torch.arange(len(self.shapes), device=self.shapes.present_NV.device)
        for item_B in torch.split(every_N, batch):
            chosen = self.shapes.select(item_B)
            target_BP3 = chosen.teacher_NP3 if self.is_proxy else chosen.truth_NP3
            target_BP3 = target_BP3[:, : self.recipe.validation_points]
            with _autocast(self.recipe, item_B.device):
                outputs = torch.func.functional_call(network, state, (chosen.tokens_NVHWC.float(), chosen.present_NV))
            place_BP3 = uniforms(
                item_B, (target_BP3.shape[1], 3), seed=self.recipe.seed, epoch=-1, stream=Stream.SURFACE
            )
            errors.append(chamfer(self.student.sample(outputs, place_BP3), target_BP3, reduction="none"))
        network.train()
        return torch.cat(errors)


def _optimizer(network: torch.nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.99))


def _stack(terms: Terms) -> torch.Tensor:
    return torch.stack([t.raw.detach() for t in terms.values()] + [t.weighted.detach() for t in terms.values()])


def _autocast(recipe: Recipe, device: torch.device) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, torch.bfloat16) if recipe.amp and device.type == "cuda" else nullcontext()


@contextmanager
def _reproducible(recipe: Recipe, device: str) -> Iterator[None]:
    """A fixed number of threads and, on CPU, deterministic algorithms: parallel index backwards are not, by default."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    settings: Any = torch.utils.deterministic
    fill = settings.fill_uninitialized_memory
    torch.set_num_threads(recipe.num_threads)
    if device == "cpu":
        torch.use_deterministic_algorithms(True)
        settings.fill_uninitialized_memory = False  # a sixth of a step, for memory nobody reads
    try:
        with torch.random.fork_rng(devices=[] if device == "cpu" else None):
            torch.manual_seed(recipe.seed)
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        settings.fill_uninitialized_memory = fill


def _rng_state(device: torch.device) -> State:
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def _restore_rng(state: State, device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def _writer(folder: Path | None, step: int) -> Iterator[Callable[[Row], None]]:
    """Writes rows to TensorBoard; rows after `step` of an interrupted run are purged."""
    if folder is None:
        yield lambda row: None
        return
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder), purge_step=step + 1)
    try:
        yield lambda row: _write_scalars(writer, row)
    finally:
        writer.close()


def _write_scalars(writer: Any, row: Row) -> None:
    area = "step" if "raw" in row else "epoch"
    for name, value in row.items():
        if isinstance(value, dict):
            for term, number in value.items():
                writer.add_scalar(f"{name}/{term}", number, row["step"])
        elif name not in ("step", "epoch"):
            writer.add_scalar(f"{area}/{name}", value, row["step"])
