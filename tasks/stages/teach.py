"""teach: the teacher's casts and latents of every item, checked before they are taken."""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from models import casts, plugins
from models.cameras import NAMED_AZIMUTHS_DEG, Camera
from models.casts import kind_of, mesh
from models.errors import OOM_CLASSES, BadInput, EmptyOutput, Unavailable
from models.geometry import FRAME
from models.hosting.client import HostLimits
from models.hosting.ladder import Evidence
from models.needs import TEACHER
from models.params import Block
from models.plugins import result_version
from models.teachers import Site, Teacher, TeacherOutput, Wants, unfit
from models.views import Views, decode_rgba
from tasks.collections.files import file_sha256
from tasks.collections.ledger import Ledger
from tasks.collections.records import Record
from tasks.engine.stage import Context, Item, Json, Offer, Output, Stage, Wanted
from tasks.stages import catalog, prepare
from tasks.stages.catalog import StoredItem

CAMERAS = "cameras.json"
VIEW = "view."
LATENTS = "latents.npz"


class TeachParams(Block):
    """The `teach` block."""

    teacher: str = "classical"
    """Plug-in of models/teachers; its own block is `teachers.NAME`."""
    seed: int = Field(0, ge=0)
    """Every item draws its own seed from this and its id."""


class Teach(Stage):
    """Writes the files of what the teacher makes: mesh.glb, gaussians.ply (KIND.x of any kind of cast), latents.npz."""

    name = "teach"
    upstreams = ("matte", "ingest", "features")
    Params = TeachParams
    plugin_blocks = ("teachers.${teach.teacher}",)
    offers = (
        Offer(
            TEACHER,
            files=lambda record, params: (mesh.FILE,) if mesh.FILE in record.files else (),
            read=lambda files: mesh.from_files({mesh.FILE: files.read(mesh.FILE)}),
        ),
    )

    def plugins(self, params: Any) -> dict[str, str]:
        return {"teachers": params.stage(self.name).teacher}

    def uses_gpu(self, params: Any) -> bool:
        return bool(getattr(self._plugin(params), "USES_GPU", False))

    def upstreams_of(self, params: Any) -> tuple[str, ...]:
        """Features only for a teacher that wants more than views."""
        return self.upstreams if hasattr(self._plugin(params), "wants") else self.upstreams[:2]

    def weights(self, params: Any, workspace: Path) -> Sequence[Path]:
        """Those of teachers whose module has a `weights(params, workspace)`."""
        find = getattr(self._plugin(params), "weights", None)
        name = params.stage(self.name).teacher
        return find(params.plugin("teachers", name), workspace) if find else ()

    def wanted(self, context: Context) -> Iterator[Wanted]:
        """A teacher that reads files of its own has those of an item in its key, and is given their paths.

        It has a `find_files(params, workspace, labels) -> files_of`, called once; labels: of all items, by id.
        `files_of(id)` gives paths, none where there is nothing for the item, and may raise BadInput.
        """
        find = getattr(self._plugin(context.params), "find_files", None)
        teacher = context.params.stage(self.name).teacher
        if find is None:
            wants = self._wants(context)
            for wanted in super().wanted(context):
                yield _with_needs(wanted, wants, teacher, context) if wants and wanted.skip is None else wanted
            return
        ingested = context.upstreams["ingest"].records
        labels = {item_id: str(record.facts["label"]) for item_id, record in ingested.items()}
        files_of = find(context.params.plugin("teachers", teacher), context.workspace, labels)
        for wanted in super().wanted(context):
            yield wanted if wanted.skip is not None else _with_files(wanted, files_of, teacher, context.digest)

    def skip(self, records: Mapping[str, Record], params: Any) -> str | None:
        """Views that the teacher can do nothing with: for one that needs cameras, photos."""
        files = records["matte"].files
        reason = unfit(self._plugin(params), view_names(files), CAMERAS in files)
        if reason is None:
            return None
        return f"the {params.stage(self.name).teacher} teacher can do nothing with it: {reason}"

    def reads(self, records: Mapping[str, Record], params: Any) -> Iterable[tuple[str, str]]:
        """The matted views and their cameras: labels do not change what a teacher makes."""
        names = sorted(records["matte"].files)
        return [("matte", name) for name in names if name.startswith(VIEW) or name == CAMERAS]

    def start(self, context: Context) -> Callable[[Item], Output]:
        params: TeachParams = context.params.stage(self.name)
        block = context.params.plugin("teachers", params.teacher)
        wants = self._wants(context)
        if wants and (unlike := prepare.unlike(wants.preparation, prepare.preparation(context.params, wants.needs))):
            raise Unavailable(_made_otherwise(params.teacher, unlike))
        threading.Thread(target=_import_early, daemon=True).start()
        teacher: Teacher = self._plugin(context.params).create(block, site_of(context))
        context.closing(teacher.close)

        def run(item: Item) -> Output:
            payload = context.payload(item.id) or {}
            if "problem" in payload:
                raise BadInput(payload["problem"])
            views, seed = read_views(item), item_seed(params.seed, item.id)
            if "files" in payload:
                views = replace(views, files=_unchanged(payload["files"]))
            if wants:
                views = replace(views, given=_given(item, wants, params.teacher, context.params))
            made, quality = accept(teacher.generate(views, seed=seed, name=item.id, rungs=payload.get("rungs")))
            facts = {"teacher": params.teacher, "licence": teacher.licence}
            return Output(files_of(made), FRAME, quality, made.rung, facts, made.measured)

        return run

    def _plugin(self, params: Any) -> Any:
        return plugins.load("teachers", params.stage(self.name).teacher)

    def _wants(self, context: Context) -> Wants | None:
        ask = getattr(self._plugin(context.params), "wants", None)
        teacher = context.params.stage(self.name).teacher
        found: Wants | None = ask(context.params.plugin("teachers", teacher), context.workspace) if ask else None
        return found


def _with_needs(wanted: Wanted, wants: Wants, teacher: str, context: Context) -> Wanted:
    """With what the teacher is given beside the views in its key, or skipped where the item lacks it."""
    given = wants.needs.given
    if lack := catalog.lacks(given, wanted.records, context.params):
        return wanted._replace(inputs=(), skip=f"the {teacher} teacher can do nothing with it: {lack}")
    read = catalog.inputs_of(given, wanted.records, context.params)
    versions = [(entry, str(result_version(entry, context.versions))) for entry in wants.entries]
    return wanted._replace(inputs=(*dict.fromkeys((*wanted.inputs, *read)), *versions))


def _given(item: Item, wants: Wants, teacher: str, params: Any) -> StoredItem:
    """What the teacher is given beside the views. Raises Unavailable where that is not what it knows."""
    forms = {need.name: catalog.form_of(need, [item.records], params) for need in wants.needs.given}
    if unlike := prepare.unlike(wants.forms, forms):
        raise Unavailable(_made_otherwise(teacher, unlike))
    read = lambda stage, record, name: item.read(stage, name)  # noqa: E731
    return StoredItem(item.id, item.records, wants.needs.given, params, read)


def _made_otherwise(teacher: str, unlike: Sequence[str]) -> str:
    return (
        f"the {teacher} teacher was trained on images that were made ready otherwise: {'; '.join(unlike)}. Set these "
        "in params.yaml as they were there, or take a student that was trained on what is made here"
    )


def _with_files(
    wanted: Wanted, files_of: Callable[[str], Sequence[Path]], teacher: str, digest: Callable[[Path], str]
) -> Wanted:
    """With the teacher's own files, with the reason why it cannot have them, or skipped where it has none."""
    try:
        files = [(path, digest(path)) for path in files_of(wanted.id)]
    except BadInput as error:
        return _with_problem(wanted, str(error))
    except OSError as error:
        return _with_problem(wanted, f"{error.filename} cannot be read: {error.strerror}")
    if not files:
        return wanted._replace(inputs=(), skip=f"the {teacher} teacher has nothing for it")
    own = tuple((path.name, sha256) for path, sha256 in files)
    payload = {"files": [[str(path), sha256] for path, sha256 in files]}
    return wanted._replace(inputs=(*wanted.inputs, *own), payload=payload)


def _with_problem(wanted: Wanted, problem: str) -> Wanted:
    """It fails with this reason, once, until the reason is another."""
    digest = hashlib.sha256(problem.encode()).hexdigest()
    return wanted._replace(inputs=(*wanted.inputs, ("problem", digest)), payload={"problem": problem})


def _unchanged(files: Iterable[tuple[str, str]]) -> tuple[Path, ...]:
    """Paths of files that still have the digests in the key. Raises BadInput."""
    paths = []
    for name, sha256 in files:
        path = Path(name)
        if not path.is_file() or file_sha256(path) != sha256:
            raise BadInput(f"{path} changed while it was being read, or is gone; run again")
        paths.append(path)
    return tuple(paths)


def site_of(context: Context) -> Site:
    """Where the teacher of this workspace works, with what the ledger knows of the GPUs it ran on."""
    limits = HostLimits(**context.params.run.teacher.model_dump())

    def evidence(gpu: str) -> Iterator[Evidence]:
        with Ledger(context.work_dir) as ledger:
            measured = ledger.figures()
        for figures in measured:
            if figures.get("gpu") == gpu:
                for step in figures["steps"]:
                    if step["outcome"] == "done" or (step["fresh"] and step["outcome"] in OOM_CLASSES):
                        yield Evidence(step["rung"], figures["size"], fits=step["outcome"] == "done")

    environments = context.paths.environments
    return Site(context.device, context.work_dir, environments, limits, evidence, context.workspace)


def accept(made: TeacherOutput) -> tuple[TeacherOutput, dict[str, Json]]:
    """What a teacher made as it is stored, and its figures for the record.

    Raises EmptyOutput for what must not be taken for an output, naming the field at fault.
    """
    if not made.casts:
        raise EmptyOutput("the teacher returned no cast: neither a mesh nor Gaussians")
    try:
        stored = tuple(kind_of(cast).as_stored(cast) for cast in made.casts)
        figures = [kind_of(cast).check(cast) for cast in stored]
        for cast in stored:
            kind_of(cast).check_frame(cast)
    except EmptyOutput as error:
        raise EmptyOutput(f"the teacher's {error}") from error
    for name, array in made.latents.items():
        if array.dtype.kind not in "biuf" or array.size == 0 or not np.isfinite(array).all():
            raise EmptyOutput(f"the teacher's {name} are empty, no numbers, or not finite")
    return replace(made, casts=stored), {**figures[0], **made.quality}


def files_of(made: TeacherOutput) -> dict[str, bytes]:
    """What was made, as files; latents.npz holds arrays only (no pickle)."""
    files: dict[str, bytes] = {}
    for cast in made.casts:
        files |= casts.files_of(cast)
    if made.latents:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **made.latents)
        files[LATENTS] = buffer.getvalue()
    return files


def _import_early() -> None:
    """What the first output would wait for, while the teacher loads."""
    for name in ("trimesh", "scipy.sparse.csgraph"):
        importlib.import_module(name)


def read_views(item: Item) -> Views:
    """The item's matted views: the named ones first, then the others by name."""
    present = view_names(item.names("matte"))
    names = [name for name in NAMED_AZIMUTHS_DEG if name in present]
    names += [name for name in present if name not in NAMED_AZIMUTHS_DEG]
    if not names:
        raise BadInput(f"item {item.label} has no views")
    images = [decode_rgba(item.read("matte", f"{VIEW}{name}.png")) for name in names]
    cameras = None
    if CAMERAS in item.names("matte"):
        layout = json.loads(item.read("matte", CAMERAS))["views"]
        cameras = tuple(Camera.from_json(layout[name]) for name in names)
    return Views(tuple(names), np.stack(images), cameras)


def view_names(files: Iterable[str]) -> list[str]:
    """Names of the views among the files of a matted item."""
    return sorted(name.removeprefix(VIEW).removesuffix(".png") for name in files if name.startswith(VIEW))


def item_seed(seed: int, item_id: str) -> int:
    """A seed of 63 bits that depends on the run's seed and the item alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{item_id}".encode()).digest()[:8]) >> 1
