"""New items and the published student: what is trained, what is left alone, and what the plan says of it."""

import hashlib
import json
import shutil
from dataclasses import asdict, replace

import pytest

from models.students import Spec
from models.trained import describe, description_bytes
from tasks.collections.index import Finished
from tasks.collections.ledger import Ledger
from tasks.collections.records import Record, from_line, read_items, to_line
from tasks.collections.spool import Spool
from tasks.collections.statcache import StatCache
from tasks.collections.tarball import encode_item
from tasks.commands.plan import _forecast_stage, _Upstream
from tasks.engine.outcome import OK
from tasks.engine.planning import StagePlan, make_recipe, plan_stage
from tasks.engine.stage import Item, Output, Upstream
from tasks.engine.upstreams import UpstreamLines, planning_context
from tasks.engine.worker import open_upstream
from tasks.params import Params
from tasks.stages.prepare import preparation
from tasks.stages.students import Choice
from tasks.stages.train import Train, TrainParams
from tasks.stages.train.new_data import Start
from tests.support import TOY_KEY, Running, make_record, make_workspace, run_task, wait_until
from tests.tasks.stages.test_train import POINTS, QUICK, VIEWS, Shop

MODES = ("retrain", "warm_start", "pin")
PIN, WARM, RETRAIN = ("(train.on_new_data: pin)", "(train.on_new_data: warm_start)", "(train.on_new_data: retrain)")


class Foundry:
    """A workspace with the upstream collections of a Shop. Its students are made by hand, of no more than facts."""

    def __init__(self, folder) -> None:
        self.workspace = make_workspace(folder, {"run": {"workers": 1}, "train": QUICK, "students": POINTS})
        self.shop = Shop()
        self.bring()

    def bring(self, *items: str, without: tuple[str, ...] = (), **fields) -> None:
        """Add items to the shop, take some away, and publish its collections. fields: those of Shop.add."""
        for item_id in items:
            self.shop.add(item_id, **{"split": "train"} | fields)
        for stage, records in self.shop.upstreams.items():
            for item_id in without:
                records.pop(item_id, None)
            self._publish(stage, [(_with_own_key(record), files) for record, files in records.values()])

    def plan(self, mode: str = "retrain", **train) -> StagePlan:
        """What a run would do."""
        stage, workspace, params = Train(), self.workspace, self.params(mode, **train)
        stats = StatCache(workspace.stat_cache_file)
        finished = Finished(workspace.local("train"), workspace.shards_dir("train"), stats.digest)
        finished.refresh()
        upstreams = {name: UpstreamLines(workspace, name, stats) for name in stage.upstreams}
        for upstream in upstreams.values():
            upstream.load("train")
        recipe = make_recipe(stage, params, {}, workspace, stats.digest)
        context = planning_context(stage, workspace, params, stats, upstreams, {})
        plan = plan_stage(stage, context, recipe, finished, {}, params.run.attempts)
        stats.close()
        return plan

    def params(self, mode: str = "retrain", **train) -> Params:
        return Params({"run": {"workers": 1}, "train": QUICK | {"on_new_data": mode} | train, "students": POINTS})

    def train(self, mode: str = "retrain", *, publish: bool = True, **train) -> Record:
        """Finish the one pending training as a worker would, and publish it."""
        plan = self.plan(mode, **train)
        (task,) = plan.pending
        files = {"student.safetensors": f"weights of {task.key}".encode(), "student.json": self._description()}
        start = Start(**task.payload["start"]).to_json() if task.payload["start"] else {}
        facts = {"items": self.trainable(), "settings": task.payload["settings"], **start}
        record = make_record(files, item_id="train", key=task.key, facts=facts, recipe=plan.recipe.name)
        self._publish("train", [(record, files)], publish)
        return record

    def trainable(self) -> list[str]:
        return sorted(item_id for item_id in self.shop.upstreams["gate"] if not item_id.startswith("test"))

    def forecast(self, mode: str, *, uncertain: set[str]):
        """The plan of train while these items are still to be made upstream."""
        ahead = {
            name: _Upstream(False, read_items(self.workspace.items_file(name)), uncertain) for name in Train.upstreams
        }
        stats = StatCache(self.workspace.stat_cache_file)
        found, upstream = _forecast_stage(Train(), self.workspace, self.params(mode), {}, stats, ahead, is_read=True)
        stats.close()
        return found, upstream

    def _description(self) -> bytes:
        shown = {view for record, _ in self.shop.upstreams["features"].values() for view in record.facts["views"]}
        views = [view for view in VIEWS if view in shown]
        tokens = {"encoder": "toy", "channels": 8, "grid": [4, 4], "views": views}
        choice = Choice("train", self.params())
        spec = Spec({"tokens": tokens})
        kept = preparation(choice.params, choice.needs)
        return description_bytes(describe("mesh_deform", choice.plugin_params, spec, kept))

    def _publish(self, stage, items, publish=True) -> None:
        local = self.workspace.local(stage)
        local.mkdir(parents=True, exist_ok=True)
        spool = Spool(local, self.workspace.shards_dir(stage))
        for record, files in items:
            spool.append(*encode_item(record, files))
        spool.seal()
        if publish:
            lines = sorted(to_line(record) for record, _ in items)
            self.workspace.items_file(stage).parent.mkdir(parents=True, exist_ok=True)
            self.workspace.items_file(stage).write_bytes(b"".join(lines))


def _with_own_key(record: Record) -> Record:
    return record._replace(key=hashlib.sha256(to_line(record)).hexdigest())


@pytest.fixture
def foundry(tmp_path) -> Foundry:
    """With a published student, trained over train-0 to train-5 and val-0."""
    foundry = Foundry(tmp_path)
    foundry.train()
    return foundry


def is_fresh(plan: StagePlan, record: Record | None = None) -> bool:
    """Whether nothing is to be computed, and this student is the one that stays."""
    fresh = plan.lines().get("train")
    return not plan.pending and fresh is not None and (record is None or fresh.key == record.key)


def cold(plan: StagePlan) -> bool:
    """Whether one student is to be trained from scratch."""
    return [task.payload["start"] for task in plan.pending] == [None]


def test_what_new_data_mean_is_not_part_of_the_key(foundry):
    recipes = {foundry.plan(mode, warm_start_epochs=epochs).recipe.name for mode in MODES for epochs in (None, 1, 7)}
    assert len(recipes) == 1
    for mode in MODES:
        plan = foundry.plan(mode)
        assert is_fresh(plan)
        assert plan.notes == []


def test_a_key_made_before_there_was_a_choice_is_still_the_key(foundry):
    (wanted,) = Train().wanted(foundry.shop.context(foundry.workspace.root))
    left_out = {"checkpoint_every_steps", "on_new_data", "variants", "warm_start_epochs"}
    assert wanted.payload["settings"]["train"].keys() == TrainParams.model_fields.keys() - left_out
    names = [name for name, _ in wanted.inputs]
    assert names[:7] == [
        "settings",
        "preparation",
        "features/train-0/encoder",
        "features/train-0/grids.safetensors",
        "ingest/train-0/mesh.glb",
        "teach/train-0/mesh.glb",
        "facts/train-0",
    ]
    assert len(names) == 2 + 7 * 5


def test_retrain_trains_anew_over_everything(foundry):
    foundry.bring("new")
    plan = foundry.plan()
    assert cold(plan)
    assert plan.notes == []


def test_pinned_the_student_stays_and_new_items_are_left_out(foundry):
    (before,) = foundry.plan().lines().values()
    foundry.bring("new-1", "new-2")
    foundry.bring("val-new", split="val")
    foundry.bring("test-new", split="test")
    plan = foundry.plan("pin")
    assert is_fresh(plan, before)
    assert plan.notes == [f"3 new items, left out {PIN}"]


def test_pinned_an_item_that_is_gone_means_a_training_over_everything_until_it_is_back(foundry):
    first = from_line(foundry.plan().lines().line("train"))
    foundry.bring("new", without=("train-3",))
    plan = foundry.plan("pin")
    assert cold(plan)
    assert plan.notes == [
        "trained anew: 1 item that it was trained on is gone, or no longer accepted by the gate " + PIN
    ]
    second = foundry.train("pin")
    assert is_fresh(foundry.plan("pin"), second)
    foundry.bring("train-3")
    assert is_fresh(foundry.plan("pin"), second)
    assert foundry.plan("pin").notes == [f"1 new item, left out {PIN}"]
    foundry.bring(without=("new",))
    assert "new" in second.facts["items"]
    assert first.key != second.key


def test_pinned_an_item_that_changed_means_a_training_over_everything(foundry):
    foundry.bring("new")
    foundry.shop._put("teach", "train-0", {"mesh.glb": b"another"}, {})
    foundry.bring()
    plan = foundry.plan("pin")
    assert cold(plan)
    assert plan.notes == [f"trained anew: items that it was trained on have changed {PIN}"]


def test_pinned_other_params_mean_a_training_over_everything_and_changed_back_nothing(foundry):
    first = from_line(foundry.plan().lines().line("train"))
    foundry.bring("new")
    plan = foundry.plan("pin", epochs=3)
    assert cold(plan)
    assert plan.notes == [f"trained anew: params or versions have changed {PIN}"]
    second = foundry.train("pin", epochs=3)
    assert "new" in second.facts["items"]
    assert is_fresh(foundry.plan("pin", epochs=3), second)
    assert is_fresh(foundry.plan("pin"), first)
    assert foundry.plan("pin").notes == [f"1 new item, left out {PIN}"]


def test_a_student_that_does_not_say_what_it_was_trained_on_cannot_be_pinned(foundry):
    path = foundry.workspace.items_file("train")
    (record,) = read_items(path).values()
    shutil.rmtree(foundry.workspace.shards_dir("train"))
    silent = record._replace(facts={})
    files = {"student.safetensors": f"weights of {record.key}".encode(), "student.json": foundry._description()}
    foundry._publish("train", [(silent, files)])
    assert is_fresh(foundry.plan("pin"), record)
    assert foundry.plan("pin").notes == []
    foundry.bring("new")
    assert cold(foundry.plan("pin"))
    assert foundry.plan("pin").notes == [
        f"trained anew: the published student does not say what it was trained on {PIN}"
    ]


@pytest.mark.parametrize(("mode", "words"), [("pin", PIN), ("warm_start", WARM)])
def test_a_student_whose_bytes_are_not_here_can_neither_be_pinned_nor_started_from(foundry, mode, words):
    shutil.rmtree(foundry.workspace.shards_dir("train"))
    foundry.workspace.shards_dir("train").mkdir()
    foundry.bring("new")
    plan = foundry.plan(mode)
    assert cold(plan)
    assert plan.notes == [
        f"trained anew: the published student's bytes are not here; `dvc checkout` may bring them {words}"
    ]


def test_a_warm_start_goes_out_from_the_published_weights_over_everything(foundry):
    (first,) = read_items(foundry.workspace.items_file("train")).values()
    foundry.bring("new-1", "new-2", "new-3")
    plan = foundry.plan("warm_start", epochs=QUICK["epochs"])
    weights = first.files["student.safetensors"].sha256
    (task,) = plan.pending
    assert task.payload["start"] == {"weights": weights, "epochs": 1}
    assert plan.notes == [f"3 new items: warm start from {weights[:8]}, 1 epoch {WARM}"]
    assert plan.stale == {"train"}


def test_a_warm_start_does_not_chase_its_own_tail(foundry):
    first = from_line(foundry.plan().lines().line("train"))
    foundry.bring("new-1")
    second = foundry.train("warm_start")
    assert second.facts["warm_from"] == first.files["student.safetensors"].sha256
    assert is_fresh(foundry.plan("warm_start"), second)
    assert is_fresh(foundry.plan("warm_start", warm_start_epochs=2), second)
    foundry.bring("new-2")
    third = foundry.train("warm_start")
    assert third.facts["warm_from"] == second.files["student.safetensors"].sha256
    assert is_fresh(foundry.plan("warm_start"), third)
    foundry.bring(without=("new-2",))
    assert is_fresh(foundry.plan("warm_start"), second)
    foundry.bring(without=("new-1",))
    assert is_fresh(foundry.plan("warm_start"), first)


def test_a_warm_start_that_was_finished_and_not_published_is_not_made_again(foundry):
    foundry.bring("new")
    finished = foundry.train("warm_start", publish=False)
    assert is_fresh(foundry.plan("warm_start"), finished)


def test_a_warm_started_student_can_be_pinned_and_trained_anew(foundry):
    foundry.bring("new-1")
    warm = foundry.train("warm_start")
    assert is_fresh(foundry.plan("pin"), warm)
    foundry.bring("new-2")
    assert is_fresh(foundry.plan("pin"), warm)
    foundry.bring(without=("new-2",))
    plan = foundry.plan()
    assert cold(plan)
    assert plan.notes == [f"trained anew, not warm-started {RETRAIN}"]
    anew = foundry.train()
    assert is_fresh(foundry.plan("warm_start"), anew)
    assert foundry.plan().notes == []


def test_no_warm_start_where_more_than_new_items_came(foundry):
    foundry.bring("new", without=("train-0",))
    assert cold(foundry.plan("warm_start"))
    assert foundry.plan("warm_start").notes == [
        "trained anew: 1 item that it was trained on is gone, or no longer accepted by the gate " + WARM
    ]
    foundry.bring("train-0")
    assert cold(foundry.plan("warm_start", learning_rate=1e-4))


def test_no_warm_start_where_new_items_bring_another_shape_of_student(foundry):
    foundry.shop = Shop(views=("front", "left"))
    foundry.bring()
    foundry.train()
    foundry.bring("four-views")
    plan = foundry.plan("warm_start")
    assert cold(plan)
    assert plan.notes == [f"trained anew: its student is of another shape {WARM}"]


def test_without_a_student_every_choice_trains_from_scratch(tmp_path):
    foundry = Foundry(tmp_path)
    for mode in MODES:
        plan = foundry.plan(mode)
        assert cold(plan)
        assert plan.notes == []


@pytest.mark.parametrize(("settings", "epochs"), [({}, 8), ({"epochs": 1}, 1), ({"warm_start_epochs": 3}, 3)])
def test_a_warm_start_takes_a_quarter_of_the_epochs_or_as_many_as_asked_for(settings, epochs):
    assert TrainParams(**settings).epochs_of_a_warm_start == epochs


def test_the_plan_prices_a_new_photo_before_it_is_made(foundry):
    """`new` is in the inbox; nothing of it is known yet but its id."""
    digest = from_line(foundry.plan().lines().line("train")).files["student.safetensors"].sha256[:8]
    pinned, upstream = foundry.forecast("pin", uncertain={"new"})
    assert (pinned.exact, pinned.fresh, pinned.to_compute) == (True, 1, 0)
    assert pinned.why == [f"new items are left out {PIN}"]
    assert upstream.uncertain == set()
    warm, upstream = foundry.forecast("warm_start", uncertain={"new"})
    assert (warm.exact, warm.stale) == (False, 1)
    assert warm.why == [f"new items: warm start from {digest}, 1 epoch {WARM}", "its inputs may change"]
    assert upstream.uncertain == {"train"}
    anew, _ = foundry.forecast("retrain", uncertain={"new"})
    assert (anew.exact, anew.stale, anew.why) == (False, 1, ["its inputs may change"])


def test_the_plan_promises_nothing_while_an_item_that_was_trained_on_may_change(foundry):
    for mode in MODES:
        found, _ = foundry.forecast(mode, uncertain={"train-0"})
        assert (found.exact, found.stale, found.why) == (False, 1, ["its inputs may change"])


def test_the_plan_says_what_is_left_out_and_what_is_started_from(foundry):
    foundry.bring("new-1", "new-2")
    pinned, _ = foundry.forecast("pin", uncertain=set())
    assert (pinned.exact, pinned.to_compute, pinned.why) == (True, 0, [f"2 new items, left out {PIN}"])
    warm, _ = foundry.forecast("warm_start", uncertain=set())
    assert (warm.exact, warm.stale) == (True, 1)
    assert warm.why[0].startswith("2 new items: warm start from ")
    both, _ = foundry.forecast("pin", uncertain={"new-2"})
    assert both.why == [f"1 new item, left out {PIN}", f"new items are left out {PIN}"]


def trained(shop: Shop, folder, published: Output | None = None, **params) -> Output:
    """The shop's student, going out from a published one where there is one."""
    context = shop.context(folder, **params)
    payload = shop.wanted(folder, **params).payload
    if published is not None:
        record = make_record(published.files, item_id="train", facts=published.facts)
        start = Start(record.files["student.safetensors"].sha256, context.params.stage("train").epochs_of_a_warm_start)
        context = replace(
            context,
            published=Upstream("train", {"train": record}, lambda record, name: published.files[name]),
        )
        payload = payload | {"start": asdict(start)}
    context = replace(context, payload=lambda _: payload)
    return Train().start(context)(Item("train", TOY_KEY, "train", {}, lambda *_: b"", folder / "item"))


def epochs(output: Output) -> list[float]:
    return [row["val_chamfer"] for row in json.loads(output.files["epochs.json"])]


def test_a_warm_start_begins_where_the_published_student_ended(tmp_path):
    points = {"mesh_deform": {"num_points": 256, "validation_points": 512}}
    settings = {"epochs": 12, "learning_rate": 1e-3, "students": points}
    shop = Shop()
    first = trained(shop, tmp_path / "first", **settings)
    shop.add("a-new-one", split="train")
    cold_start = trained(shop, tmp_path / "cold", **settings)
    warm_start = trained(shop, tmp_path / "warm", first, **settings)
    assert len(epochs(warm_start)) == 3
    assert epochs(warm_start)[0] < epochs(cold_start)[0]
    assert warm_start.facts["items"] == [*first.facts["items"], "a-new-one"]
    assert warm_start.facts["warm_from"] == make_record(first.files).files["student.safetensors"].sha256
    assert warm_start.facts["warm_epochs"] == 3
    assert cold_start.facts["items"] == sorted(warm_start.facts["items"])
    assert "warm_from" not in cold_start.facts
    assert warm_start.measured["micro_batch"] == 4


def test_a_warm_start_from_other_weights_than_planned_is_refused(tmp_path):
    context = Shop().context(tmp_path)
    planned = replace(context, payload=lambda _: {"settings": {}, "start": {"weights": "f" * 64, "epochs": 1}})
    with pytest.raises(ValueError, match="the published student is not ffffffff, from which to start; run again"):
        Train().start(planned)(Item("train", TOY_KEY, "train", {}, lambda *_: b"", tmp_path / "item"))


def test_a_killed_warm_start_goes_on_from_the_same_weights_and_ends_the_same(tmp_path):
    foundry = Foundry(tmp_path / "killed")
    settings = {"checkpoint_every_steps": 1, "on_new_data": "warm_start", "warm_start_epochs": 6}
    points = {"mesh_deform": {"num_points": 1000, "validation_points": 64}}
    workspace = foundry.workspace
    (workspace.root / "params.yaml").write_text(
        json.dumps({"run": {"workers": 1}, "train": QUICK | settings, "students": points})
    )
    assert run_task("train", workspace).exit_code == OK
    foundry.bring("new")
    twin = make_workspace(tmp_path / "twin")
    shutil.copytree(workspace.root, twin.root, dirs_exist_ok=True)

    running = Running("tasks", "train", cwd=workspace.root)
    checkpoints = workspace.local("train") / "work"
    wait_until(lambda: any(checkpoints.rglob("step-*.safetensors")), timeout_s=60)
    running.kill_all()
    resumed, straight = run_task("train", workspace), run_task("train", twin)
    assert resumed.exit_code == straight.exit_code == OK
    assert "1 new item: warm start from" in resumed.stderr + resumed.stdout
    logs = "".join(path.read_text() for path in (workspace.local("train") / "logs").glob("*.log"))
    assert "training continues at step" in logs
    assert workspace.items_file("train").read_bytes() == twin.items_file("train").read_bytes()
    record = open_upstream(workspace, "train").records["train"]
    assert record.facts["warm_epochs"] == 6
    assert "1 done (0 computed)" in run_task("train", workspace).stderr
    with Ledger(workspace.local("train")) as ledger:
        assert ledger.figures()[-1]["micro_batch"] == 4
