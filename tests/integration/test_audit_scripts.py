"""The audit of frames that scripts made: what they may drop is no violation, and what cannot be compared is said."""

from __future__ import annotations

from rater.audit import Setup
from rater.audit.auditor import Auditor
from rater.model.codec import encode_json
from rater.rating import RuleBook, parse, plan
from rater.reports import AuditRequest, StoreView
from rater.sandbox import Sandbox
from rater.store import Batch, RuleEventRow, write, write_rule_events
from tests.unit.engine.builders import CATALOG
from tests.unit.store.builders import memory_store
from tests.unit.trial.world import HOUR, T, World, book_from, measured

SCRIPTS = """
modules: {hashmap: {priority: 2}, pyscripts: {priority: 1}}
hashmap: {services: [{name: cpu, mappings: [{cost: "0.1"}]}]}
pyscripts:
  scripts:
    - name: some
      data: |
        names = [point["groupby"].get("id") for point in data["usage"].get("cpu", [])]
        assert "bad" not in names
        data["usage"]["cpu"] = [p for p in data["usage"].get("cpu", []) if p["groupby"].get("id") != "gone"]
"""


def test_scripts_may_drop_points_and_change_quantities() -> None:
    # given rules that drop one resource, and a frame that failed
    book = book_from(SCRIPTS)
    with memory_store() as store, Sandbox() as sandbox:
        world = World(store, book, sandbox)
        event = plan(RuleBook.empty(), parse(SCRIPTS, "rules.yaml")).event("test", "", 0)
        write_rule_events(store, [RuleEventRow(1, T, "test", encode_json(event).decode())])
        for hour, names in enumerate((("plain", "gone"), ("plain", "bad"))):
            for name in names:
                begin = T + hour * HOUR
                world.take(
                    measured("cpu", "2", begin=begin, groupby={"id": name}, source=name, collection_id=f"{name}{hour}")
                )
            world.close(T + 6 * HOUR)
        batch = Batch()
        for alert in world.bench.alerts():
            batch.add_alert(alert)
        write(store, batch)
        # when
        asked = Auditor(StoreView(store), Setup(HOUR, CATALOG), lambda: None, prices=True)
        found = list(asked.run(AuditRequest()))
    # then
    assert [one.text() for one in found] == []
    counts = asked.counts
    assert (counts.rated, counts.dropped, counts.failed) == (1, 1, 2)
    assert counts.unchecked["scripts or other modules may have changed points"] == counts.frames
