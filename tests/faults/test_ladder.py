"""Out of memory on a simulated card: items step down, later ones start lower, and a larger card makes them whole."""

import json

import pytest

from tasks.collections.ledger import Ledger
from tasks.commands.gc import collect
from tasks.commands.items import retry_degraded
from tasks.engine.outcome import OK
from tests.faults.evidence import held_twice
from tests.faults.factory import Factory, make_factory

NUM_ITEMS = 40
RESOLUTION, REDUCED = 384, 256
"""An item needs its resolution times the share of the image that it covers, in MB."""
CARD_MB = 140


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return make_factory(tmp_path_factory.mktemp("ladder") / "prepared", NUM_ITEMS)


@pytest.fixture
def factory(prepared, tmp_path):
    factory = Factory.copy(prepared, tmp_path / "factory")
    factory.set(run={"workers": 1}, teachers={"scripted": {"card_mb": CARD_MB}})
    return factory


def run(factory):
    ended = factory.run()
    assert ended.exit_code == OK, ended.stderr


def sizes(factory):
    """Size by label, as the ledger keeps it, of the items that were finished."""
    with Ledger(factory.workspace.local("teach")) as ledger:
        records = [json.loads(line) for line in factory.workspace.items_file("teach").read_text().splitlines()]
        by_id = {row["id"]: json.loads(row["figures"])["size"] for r in records for row in ledger.history(r["id"])}
    return {label: by_id[item_id] for label, item_id in factory.ids.items() if item_id in by_id}


def num_ooms(factory):
    path = factory.script / "ooms.log"
    return len(path.read_text().splitlines()) if path.is_file() else 0


def resolutions(factory):
    records = [json.loads(line) for line in factory.workspace.items_file("teach").read_text().splitlines()]
    return {record["id"]: record["quality"]["resolution"] for record in records}


def test_items_that_do_not_fit_are_made_with_less_and_marked(factory):
    run(factory)
    too_large = {label for label, size in sizes(factory).items() if RESOLUTION * size > CARD_MB}
    assert 5 < len(too_large) < NUM_ITEMS - 5, "the card parts the items"
    rungs = factory.rungs()
    assert too_large <= rungs.keys()
    assert factory.done() == set(factory.ids)
    for label, item_id in factory.ids.items():
        assert resolutions(factory)[item_id] == (REDUCED if label in rungs else RESOLUTION)
    at_the_top_always = 2 * len(too_large)  # once in the process it was given, once more in a fresh one
    assert num_ooms(factory) < at_the_top_always / 2, "most of them started lower, by what was learnt"


def test_a_second_run_starts_with_what_the_first_has_learnt(factory):
    run(factory)
    learning = num_ooms(factory)
    factory.set(teachers={"scripted": {"resolution": RESOLUTION - 1}})
    run(factory)
    assert set(resolutions(factory).values()) == {RESOLUTION - 1, REDUCED}, "every item was made again"
    assert num_ooms(factory) - learning <= 2


def test_degraded_items_are_made_whole_on_a_larger_card_and_stay_where_it_is_not(factory):
    run(factory)
    reduced = set(factory.rungs())
    before = factory.workspace.items_file("teach").read_bytes()
    assert retry_degraded(factory.workspace, "teach") == len(reduced)
    run(factory)
    assert factory.workspace.items_file("teach").read_bytes() == before, "the card is as small as it was"
    with Ledger(factory.workspace.local("teach")) as ledger:
        assert ledger.reopened() == set()
    factory.set(teachers={"scripted": {"card_mb": 1000}})
    run(factory)
    assert factory.workspace.items_file("teach").read_bytes() == before, "a larger card changes nothing unasked"
    assert retry_degraded(factory.workspace, "teach") == len(reduced)
    run(factory)
    assert factory.rungs() == {}
    assert set(resolutions(factory).values()) == {RESOLUTION}
    collect(factory.workspace, "teach", dry_run=False)
    assert held_twice(factory.workspace, "teach") == []
    run(factory)
    assert factory.rungs() == {}
    ended = factory.run()
    assert "0 computed" in ended.stdout + ended.stderr


def test_ladder_does_not_enter_the_key(factory):
    run(factory)
    before = factory.workspace.items_file("teach").read_bytes()
    factory.set(teachers={"scripted": {"ladder": [{"resolution": 200}, {"resolution": 100}]}})
    ended = factory.run()
    assert "0 computed" in ended.stdout + ended.stderr
    assert factory.workspace.items_file("teach").read_bytes() == before
