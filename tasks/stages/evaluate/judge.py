"""One method's cast of one item, measured by its kind against the truth, or by proxies where there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from models.baselines.ellipsoid import fit_ellipsoid
from models.baselines.icosphere_fit import fit_icosphere
from models.casts import Cast, kind_of, name_of
from models.exam import Exam
from models.geometry import FRAME, Mesh
from models.metrics import Surface
from models.needs import TEACHER as TEACHER_MESH
from models.needs import TOKENS, TRUTH, Need
from models.student import Student
from models.students import Ask
from models.trained import WEIGHTS, load_student
from models.views import Views
from tasks.engine.stage import Context, Item, Json, Output
from tasks.stages.catalog import StoredItem
from tasks.stages.evaluate import STUDENT_FILES, EvaluateParams, seen_views, unseen_views
from tasks.stages.evaluate.latency import measure_once
from tasks.stages.evaluate.methods import FLOOR, STUDENT, TEACHER, student_methods
from tasks.stages.evaluate.references import References, class_of, open_references, training_items
from tasks.stages.ingest import has_truth
from tasks.stages.matte import OBJECT, read_views
from tasks.stages.students import choice

Made = tuple[Cast | None, dict[str, Json]]
"""A cast, and facts for its record. No cast where the method has nothing for this item: `absent` says why."""
KEPT = "mean_shape"
"""The baseline whose casts the report shows; those of students are kept, too."""


class Judge:
    """Holds the students and the references; judges one record at a time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._params: EvaluateParams = context.params.stage("evaluate")
        self._students = student_methods(context.params)
        self._loaded: dict[str, LoadedStudent] = {}
        self._last_exam: tuple[str, Exam] = ("", Exam())

    def judge(self, item: Item) -> Output:
        method: str = self._context.payload(item.id)
        ingested = item.records["ingest"]
        facts: dict[str, Json] = {"item": ingested.id, "method": method, "class": class_of(ingested)}
        facts["basis"] = "truth" if has_truth(ingested) else "proxy"
        exam = self._exam(item)
        cast, told = self._cast(method, item, exam)
        if cast is None:
            return Output({}, FRAME, facts=facts | told)
        if method == TEACHER:
            exam = replace(exam, teacher=None)  # it is not measured against itself
        kind = kind_of(cast)
        kind.check(cast)
        quality = kind.measure(cast, exam)
        if method in self._students:
            quality |= self._asked(method, item, exam)
        files = kind.to_files(cast) if method in self._students or method == KEPT else {}
        return Output(files, FRAME, quality, facts=facts | {"kind": name_of(kind)} | told)

    def _exam(self, item: Item) -> Exam:
        """The item's; the records of an item come one after the other, so the last one is kept."""
        item_id = item.records["ingest"].id
        if self._last_exam[0] != item_id:
            self._last_exam = item_id, self._make_exam(item)
        return self._last_exam[1]

    def _make_exam(self, item: Item) -> Exam:
        protocol = self._params.protocol()
        given = _given(item, (TRUTH, TEACHER_MESH), self._context)
        if (truth := given.get(TRUTH)) is not None:
            return Exam(truth=Surface(truth, protocol))
        teacher = given.get(TEACHER_MESH)
        views = _views(item, unseen_views(item.records))
        return Exam(teacher=Surface(teacher, protocol) if teacher is not None else None, unseen=views)

    def _cast(self, method: str, item: Item, exam: Exam) -> Made:
        if method in self._students:
            return self._student(method).predict(item, Ask(seed=self._params.seed), self._context), {}
        make: Mapping[str, Callable[[Item, Exam], Made]] = {
            TEACHER: self._teacher,
            FLOOR: self._floor,
            "mean_shape": self._mean_shape,
            "nearest": self._nearest,
            "ellipsoid": self._ellipsoid,
            "icosphere_fit": self._icosphere_fit,
        }
        return make[method](item, exam)

    def _asked(self, method: str, item: Item, exam: Exam) -> dict[str, float]:
        """Figures of the further predictions that the student asks of itself, as ASK/METRIC."""
        student = self._student(method)
        figures: dict[str, float] = {}
        for name, ask in student.asks(item, self._context).items():
            cast = student.predict(item, ask, self._context)
            figures |= {f"{name}/{metric}": value for metric, value in kind_of(cast).measure(cast, exam).items()}
        return figures

    def _student(self, method: str) -> LoadedStudent:
        if method not in self._loaded:
            self._loaded[method] = LoadedStudent(method, self._students[method], self._context)
        return self._loaded[method]

    def _teacher(self, item: Item, exam: Exam) -> Made:
        return _given(item, (TEACHER_MESH,), self._context)(TEACHER_MESH), {}

    def _floor(self, item: Item, exam: Exam) -> Made:
        assert exam.truth is not None, "planned for items with truth"
        return exam.truth.mesh, {}

    def _mean_shape(self, item: Item, exam: Exam) -> Made:
        mean = self._references.mean_shape(class_of(item.records["ingest"]))
        return mean, {} if mean else {"absent": "its class has no mean shape"}

    def _nearest(self, item: Item, exam: Exam) -> Made:
        nearest = self._references.nearest(_given(item, (TOKENS,), self._context)(TOKENS))
        if nearest is None:
            return None, {"absent": "no training item has a view in common with it"}
        return Mesh.from_glb(self._context.upstreams["ingest"].read(nearest, "mesh.glb")), {"nearest": nearest}

    def _ellipsoid(self, item: Item, exam: Exam) -> Made:
        seen = _views(item, seen_views(item.records))
        assert seen is not None and seen.cameras is not None, "planned for views of known cameras"
        return fit_ellipsoid(seen.rgba_VHW4[..., 3] >= OBJECT, seen.cameras), {}

    def _icosphere_fit(self, item: Item, exam: Exam) -> Made:
        assert exam.truth is not None, "planned for items with truth"
        steps, seed = self._params.icosphere_fit_steps, self._params.seed
        return fit_icosphere(exam.truth.mesh, num_steps=steps, seed=seed + 2), {}

    @cached_property
    def _references(self) -> References:
        upstreams = self._context.upstreams
        items = training_items(upstreams, self._params.reference_items)
        return open_references(self._context.work_dir / "references", items, upstreams, self._context.progress)


class LoadedStudent:
    """A trained student on the worker's device. Its first prediction is timed, once for these weights and device."""

    def __init__(self, method: str, name: str, context: Context) -> None:
        train = context.upstreams["train"]
        own = choice(context.params, name)
        options = own.plugin_params.model_dump(mode="json", include=set(own.plugin_params.USE_ONLY))
        self._student: Student = load_student({name_: train.read(name, name_) for name_ in STUDENT_FILES}, options)
        self._student.network.to(context.device)
        self._given = own.needs.given
        file = "latency.json" if method == STUDENT else f"latency.{method}.json"
        self._latency_file = context.work_dir / file
        self._facts = {
            "student": train.records[name].files[WEIGHTS].sha256,
            "device": context.device,
            "num_threads": context.num_threads,
        }
        self._is_timed = False

    def predict(self, item: Item, ask: Ask, context: Context) -> Cast:
        given = _given(item, self._given, context)
        values = given.in_hand()
        if not self._is_timed:
            measure_once(
                self._latency_file,
                lambda: self._student.predict(values, ask),
                facts=self._facts,
                given=[need.name for need in self._given],
            )
            self._is_timed = True
        return self._student.predict(values, ask)

    def asks(self, item: Item, context: Context) -> Mapping[str, Ask]:
        return self._student.asks(_given(item, self._given, context).in_hand())


def _given(item: Item, needs: tuple[Need[Any], ...], context: Context) -> StoredItem:
    read = lambda stage, record, name: item.read(stage, name)  # noqa: E731
    return StoredItem(item.records["ingest"].id, item.records, needs, context.params, read)


def _views(item: Item, names: list[str]) -> Views | None:
    """Matted views of known cameras; None where none is named."""
    return read_views(names, True, lambda name: item.read("matte", name)) if names else None
