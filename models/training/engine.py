"""The training loop: from a student and its examples to the best averaged weights, resumable at any moment."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.amp.grad_scaler import GradScaler

from models.metric import Metric
from models.training.checkpoints import Checkpoint, Checkpoints
from models.training.distributed import ALONE, World
from models.training.ema import Ema
from models.training.feeds import Feed, Mode, free_bytes, open_feed
from models.training.history import History, Row, is_step
from models.training.memory import Exceeded, Fit, attempt
from models.training.optimizers import Optimizer
from models.training.recipe import Recipe
from models.training.sampler import batch_indices, steps_per_epoch
from models.training.terms import Terms, total
from models.training.trainable import Examples, Moment, Trainable
from models.training.validation import Validator, is_better
from models.training.weights import load_trained, saved_state

log = logging.getLogger(__name__)

DIVERGED = "the training diverged: lower `learning_rate` or `clip_norm`"
AHEAD_STEPS = 3
"""Steps whose examples are read ahead when they are streamed."""
WAITS_SHARE = 0.1
"""Part of an epoch's time: a training that waits longer for its data says so."""

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Job:
    """Where a training runs and what of it stays out of its result.

    folder: of its checkpoints. config: what they must agree on to be continued, beside the recipe (JSON). board: a
    folder for TensorBoard. start: the state of a student to go out from, instead of initial weights and of what
    `calibrate` measures. feed: whether examples are resident or streamed. memory_bytes: most that a resident set may
    take, None for half of what is free.
    """

    folder: Path
    device: str = "cpu"
    config: Mapping[str, Any] = field(default_factory=dict)
    progress: Callable[[str], None] = lambda _: None
    board: Path | None = None
    world: World = ALONE
    start: Mapping[str, torch.Tensor] | None = None
    feed: Mode = "auto"
    memory_bytes: int | None = None


@dataclass(frozen=True)
class TrainingResult:
    """state: what the student saves, as validated best (averaged). selected: the metric that decided, None without
    validation items: then the last weights are kept. best: the figures of the best validation, by metric. steps,
    epochs: rows of the history (see `History`). fit: how batches were split in the end, to fit into memory (see
    `Fit.figures`); it depends on the machine."""

    state: State
    selected: Metric | None
    best: Mapping[str, float]
    steps: list[Row]
    epochs: list[Row]
    num_steps: int
    num_parameters: int
    fit: dict[str, Any]


def train(
    student: Trainable, training: Examples, validation: Examples | None, recipe: Recipe, job: Job
) -> TrainingResult:
    """Train the student in place; continue from the newest checkpoint of the job's folder where there is one.

    On CPU the result does not depend on where a training was interrupted, nor on how examples are fed, to the last bit.

    Out of memory, a single process splits its batches further and says so; that changes results by rounding. Raises
    FloatingPointError when it diverges, ItemFailed when not even one item at a time fits into memory, ValueError for
    examples or settings that cannot be trained.
    """
    if len(training) == 0:
        raise ValueError("there is nothing to train on")
    device = torch.device(job.device)
    memory = free_bytes(device) if job.memory_bytes is None else job.memory_bytes
    with _reproducible(recipe, device):
        feeds = [
            open_feed(examples, student, device, job.feed, memory, job.progress)
            for examples in (training, validation)
            if examples is not None and len(examples)
        ]
        try:
            loop = _Training(student, feeds[0], feeds[1] if len(feeds) > 1 else None, recipe, job)
            with _writer(job.board if job.world.rank == 0 else None, loop.step) as write:
                return loop.run(write)
        finally:
            for feed in feeds:
                feed.close()


class _Training:
    def __init__(self, student: Trainable, feed: Feed, validation: Feed | None, recipe: Recipe, job: Job) -> None:
        self.student, self.feed, self.recipe, self.job = student, feed, recipe, job
        self.device, self.world = torch.device(job.device), job.world
        self.batch_size = min(recipe.batch_size, len(feed))
        if self.batch_size < recipe.accumulate * self.world.size:
            raise ValueError(
                f"a batch of {self.batch_size} items cannot be split into accumulate {recipe.accumulate} x "
                f"{self.world.size} processes; lower `accumulate` or raise `batch_size`"
            )
        self.steps_per_epoch = steps_per_epoch(len(feed), self.batch_size)
        self.num_steps = recipe.epochs * self.steps_per_epoch
        self.fit = Fit(
            job.folder,
            self.device,
            batch=self.batch_size // self.world.size,
            accumulate=recipe.accumulate,
            validation_batch=Validator.BATCH,
        )
        self.checkpoints = Checkpoints(job.folder, {"recipe": recipe.model_dump(), **job.config})
        checkpoint = self.checkpoints.load_latest()

        self.network = student.network.to(self.device)
        if checkpoint is None and job.start is None:
            student.calibrate(feed, self.device)
        self.optimizer = Optimizer(student, recipe)
        if checkpoint is None and job.start is not None:
            load_trained(self.student, job.start)
        self.world.share_weights(self.network)
        self.ema = Ema(self.optimizer.trained)
        self.averages = {name: Ema(self.optimizer.trained) for name in student.averages}
        self.scaler = GradScaler(self.device.type, enabled=recipe.precision == "fp16")
        self.validator = Validator(student, validation, recipe.seed) if validation else None
        self.step = 0
        self.best: tuple[dict[str, float], State] | None = None
        self._epoch_loss = 0.0
        self._pending: list[tuple[Row, list[str], torch.Tensor]] = []
        if checkpoint:
            self._resume(checkpoint)
        self.history: History | None = None
        if self.world.rank == 0:
            self.history = History(job.folder, checkpoint.facts["history_bytes"] if checkpoint else 0)
        self._epoch_began, self._waited_before_s = time.monotonic(), feed.waited_s

    def run(self, write: Callable[[Row], None]) -> TrainingResult:
        self.network.train()
        while self.step < self.num_steps:
            self._take_step()
            self.step += 1
            epoch_ends = self.step % self.steps_per_epoch == 0
            checkpoint_due = self.step % self.recipe.checkpoint_every_steps == 0 or self.step == self.num_steps
            if epoch_ends or checkpoint_due:
                self._collect(write)
            if epoch_ends:
                self.job.progress(self._finish_epoch(write))
            if checkpoint_due and self.history:
                self._save(self.history)
        self.world.barrier()
        figures, state = self.best if self.best else ({}, self._averaged())
        load_trained(self.student, state)
        result = TrainingResult(
            state={name: tensor.detach().cpu() for name, tensor in state.items()},
            selected=self.validator.selected if self.validator else None,
            best=figures,
            steps=self.history.steps() if self.history else [],
            epochs=self.history.epochs() if self.history else [],
            num_steps=self.num_steps,
            num_parameters=sum(parameter.numel() for parameter in self.optimizer.trained.values()),
            fit=self.fit.figures(),
        )
        if self.history:
            self.history.close()
        return result

    def _take_step(self) -> None:
        recipe, step = self.recipe, self.step
        learning_rate = recipe.learning_rate_at(step, self.num_steps)
        self.feed.expect(index for ahead in range(AHEAD_STEPS) for index in self._indices(step + ahead))
        random = _rng_state(self.device)
        while isinstance(found := attempt(lambda: self._accumulate(learning_rate)), Exceeded):
            if self.world.size > 1:
                raise found.error(f"at step {step + 1} in one of several processes: raise `accumulate`")
            self.job.progress(self.fit.split_further(found, step + 1))
            _restore_rng(random, self.device)
        names, values = found
        if isinstance(exceeded := attempt(lambda: self.optimizer.step(self.scaler)), Exceeded):
            what = f"in the optimiser at step {step + 1}: take a smaller student, or a device with more memory"
            raise exceeded.error(what)
        self.ema.update(recipe.ema_decay_at(step))
        for name, average in self.averages.items():
            average.update(self.student.averages[name])
        row = {"step": step + 1, "epoch": self._epoch(step) + 1, "learning_rate": learning_rate}
        self._pending.append((row, names, values))

    def _accumulate(self, learning_rate: float) -> tuple[list[str], torch.Tensor]:
        """The batch's gradients, clipped. Returns the names of the loss's terms, and their sums before the norm."""
        self.optimizer.begin_step(learning_rate, self.step / max(self.num_steps - 1, 1))
        indices = self._indices(self.step)
        parts = np.array_split(indices, self.fit.accumulate)
        sums: list[torch.Tensor] = []
        for part in parts:
            share = len(part) / self.batch_size
            terms = self._backward(part, share)
            sums.append(share * _stack(terms))
        self.world.sum_gradients(self.optimizer.trained.values())
        self.optimizer.unscale(self.scaler)
        norm = self.optimizer.clip()
        return list(terms), torch.cat([self.world.sum(torch.stack(sums).sum(0)), norm.detach().reshape(1)])

    def _backward(self, part: Any, share: float) -> Terms:
        moment = self._moment(part)
        batch = self.student.prepare(self.feed.batch(part), moment)
        with _autocast(self.recipe, self.device):
            outputs = self.student.forward(batch, moment)
        try:
            terms = self.student.loss(outputs, batch, moment)
        except FloatingPointError as error:
            raise FloatingPointError(f"{error} at step {self.step + 1}; {DIVERGED}") from error
        self.scaler.scale(total(terms) * share).backward()  # type: ignore[no-untyped-call]
        return terms

    def _indices(self, step: int) -> Any:
        """The items of a step that are this process's."""
        indices = batch_indices(len(self.feed), self.batch_size, step, seed=self.recipe.seed)
        return np.array_split(indices, self.world.size)[self.world.rank]

    def _epoch(self, step: int) -> int:
        return step // self.steps_per_epoch

    def _moment(self, items: Any, epoch: int | None = None) -> Moment:
        return Moment(
            step=self.step,
            num_steps=self.num_steps,
            epoch=self._epoch(self.step) if epoch is None else epoch,
            seed=self.recipe.seed,
            items_B=torch.from_numpy(items).to(self.device),
            averages={name: saved_state(self.student, ema.average) for name, ema in self.averages.items()},
            checkpointing=self.recipe.gradient_checkpointing,
        )

    def _collect(self, write: Callable[[Row], None]) -> None:
        """Bring the pending steps' figures to the host, in one transfer, and check them."""
        if not self._pending:
            return
        fetched = torch.cat([values for _, _, values in self._pending]).double().cpu().numpy()
        ends = np.cumsum([len(values) for _, _, values in self._pending])[:-1]
        for (row, names, _), values in zip(self._pending, np.split(fetched, ends), strict=True):
            raw, weighted = values[: len(names)], values[len(names) : -1]
            row["loss"] = float(weighted.sum())
            row["gradient_norm"] = float(values[-1])
            row["raw"] = dict(zip(names, map(float, raw), strict=True))
            row["weighted"] = dict(zip(names, map(float, weighted), strict=True))
            self._check_finite(row)
            self._epoch_loss += row["loss"]
            self._note(row, write)
        self._pending.clear()

    def _note(self, row: Row, write: Callable[[Row], None]) -> None:
        if self.history:
            self.history.add(row)
        write(row)

    def _check_finite(self, row: Row) -> None:
        overflow_is_handled = self.scaler.is_enabled()  # that step changed nothing, and the next loss is scaled less
        if np.isfinite(row["loss"]) and (overflow_is_handled or np.isfinite(row["gradient_norm"])):
            return
        raise FloatingPointError(
            f"loss {row['loss']} and gradient norm {row['gradient_norm']} are not finite at step {row['step']}; "
            f"{DIVERGED}"
        )

    def _finish_epoch(self, write: Callable[[Row], None]) -> str:
        epoch = self._epoch(self.step)
        loss, self._epoch_loss = self._epoch_loss / self.steps_per_epoch, 0.0
        row: Row = {"epoch": epoch, "step": self.step, "loss": loss}
        line = f"epoch {epoch}/{self.recipe.epochs} loss {loss:.4f}{self._waited()}"
        due = epoch % self.recipe.validate_every_epochs == 0 or epoch == self.recipe.epochs
        if self.validator and due:
            figures = self._validate(self.validator)
            row |= {f"val_{name}": value for name, value in figures.items()}
            metric = self.validator.selected
            line += f" val {metric.title} {figures[metric.name]:.{metric.digits}f}"
            if self.best is None or is_better(figures, self.best[0], metric):
                self.best = figures, {name: tensor.detach().clone() for name, tensor in self._averaged().items()}
        self._note(row, write)
        self._epoch_began, self._waited_before_s = time.monotonic(), self.feed.waited_s
        return line

    def _waited(self) -> str:
        """Words about an epoch that waited for its data."""
        share = (self.feed.waited_s - self._waited_before_s) / max(time.monotonic() - self._epoch_began, 1e-9)
        return f", waited for data {share:.0%} of the time" if share > WAITS_SHARE else ""

    def _validate(self, validator: Validator) -> dict[str, float]:
        self.network.eval()
        with self.ema.in_use():
            while isinstance(found := attempt(lambda: self._measure(validator)), Exceeded):
                self.job.progress(self.fit.validate_fewer(found))
        self.network.train()
        return found

    def _measure(self, validator: Validator) -> dict[str, float]:
        return validator.measure(self.fit.validation_batch, lambda items: self._moment(items, epoch=-1))

    def _averaged(self) -> State:
        """What the student saves: averaged parameters, and buffers as they are."""
        return saved_state(self.student, self.ema.average)

    def _save(self, history: History) -> None:
        tensors, numbers = self.optimizer.state()
        groups: dict[str, Mapping[str, torch.Tensor]] = {
            "model": saved_state(self.student, self.optimizer.trained),
            "ema": self.ema.average,
            "best": self.best[1] if self.best else {},
            "optimizer": tensors,
            "rng": _rng_state(self.device),
            **{f"average.{name}": ema.average for name, ema in self.averages.items()},
        }
        flat = {f"{group}.{name}": value for group, state in groups.items() for name, value in state.items()}
        facts = {
            "step": self.step,
            "history_bytes": history.flush(),
            "epoch_loss": self._epoch_loss,
            "best": self.best[0] if self.best else None,
            "selected": self.validator.selected.name if self.validator and self.best else None,
            "optimizer": numbers,
            "scaler": self.scaler.state_dict(),
        }
        self.checkpoints.save(self.step, Checkpoint(flat, facts))

    def _resume(self, checkpoint: Checkpoint) -> None:
        load_trained(self.student, checkpoint.group("model"))
        self.ema.load(checkpoint.group("ema"))
        for name, ema in self.averages.items():
            ema.load(checkpoint.group(f"average.{name}"))
        self.optimizer.load(checkpoint.group("optimizer"), checkpoint.facts["optimizer"], self.device)
        self.scaler.load_state_dict(checkpoint.facts["scaler"])
        _restore_rng(checkpoint.group("rng"), self.device)
        self.step, self._epoch_loss = checkpoint.facts["step"], checkpoint.facts["epoch_loss"]
        if checkpoint.facts["best"] is not None:
            best = {name: value.to(self.device) for name, value in checkpoint.group("best").items()}
            self.best = checkpoint.facts["best"], best
            assert self.validator, "the checkpoint was validated"
            self.validator.select(checkpoint.facts["selected"])
        log.info("training continues at step %d of %d", self.step, self.num_steps)


def _stack(terms: Terms) -> torch.Tensor:
    return torch.stack([t.raw.detach() for t in terms.values()] + [t.weighted.detach() for t in terms.values()])


def _autocast(recipe: Recipe, device: torch.device) -> AbstractContextManager[Any]:
    precision = recipe.precision
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" else "fp32"
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


@contextmanager
def _reproducible(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """A fixed number of threads and, on CPU, deterministic algorithms: parallel index backwards are not, by default."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    settings: Any = torch.utils.deterministic
    fill = settings.fill_uninitialized_memory
    torch.set_num_threads(recipe.num_threads)
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        settings.fill_uninitialized_memory = False  # a sixth of a step, for memory nobody reads
    try:
        with torch.random.fork_rng(devices=[] if device.type == "cpu" else None):
            torch.manual_seed(recipe.seed)
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        settings.fill_uninitialized_memory = fill


def _rng_state(device: torch.device) -> State:
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def _restore_rng(state: Mapping[str, torch.Tensor], device: torch.device) -> None:
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
    area = "step" if is_step(row) else "epoch"
    for name, value in row.items():
        if isinstance(value, dict):
            for term, number in value.items():
                writer.add_scalar(f"{name}/{term}", number, row["step"])
        elif name not in ("step", "epoch"):
            writer.add_scalar(f"{area}/{name}", value, row["step"])
