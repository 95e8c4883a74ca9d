"""What an event stream says is meant to happen, and what has drifted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.engine import looked, said, step, urn

from infra.drift import Finding, Verdict, judged, verdict
from infra.plan import Plan, parts

RECORDED = [json.loads(line) for line in (Path(__file__).parent / "recorded" / "preview-refresh.jsonl").read_text().splitlines()]
"""`pulumi preview --refresh` of 3.259.0. In the cloud a's cores were changed and b was deleted; in the program c's policy, which
cannot be changed in place, and d's cores were changed, and e was taken out."""
PROJECT = "openstack:identity/project:Project"
QUOTA = "kubernetes:core/v1:ResourceQuota"


def test_each_resource_changes_once():
    assert [(step.op, step.name) for step in Plan.of(RECORDED).changes()] == [
        ("create", "b"),
        ("update", "a"),
        ("replace", "c"),
        ("update", "d"),
        ("delete", "e"),
    ]


def test_what_changed_in_the_cloud_is_told_from_what_is_not_applied_yet():
    found = {(each.name, each.field): (each.why, each.found, each.wanted) for each in judged(Plan.of(RECORDED))}
    assert found == {
        ("b", ""): ("gone from the cloud", "", ""),
        ("a", "cores"): ("changed in the cloud", "99", "20"),
        ("c", "policy"): ("not applied yet", "x", "y"),
        ("d", "cores"): ("not applied yet", "5", "3"),
        ("e", ""): ("no longer in the site file", "", ""),
    }
    assert verdict(judged(Plan.of(RECORDED))) == Verdict.DRIFTED


def test_nothing_to_do_is_in_step():
    events = [
        looked(PROJECT, "a", before={"x": 1}, now={"x": 1, "updated": "today"}),
        step("same", PROJECT, "a", old={"x": 1}, new={"x": 1}),
    ]
    assert judged(Plan.of(events)) == []
    assert verdict([]) == Verdict.IN_STEP


def test_what_cannot_be_looked_at_is_unknown():
    text = 'Get "http://127.0.0.1:1/v3": dial tcp 127.0.0.1:1: connect: connection refused'
    plan = Plan.of([said("error", text, urn(PROJECT, "chris")), said("error", "preview failed")])
    (finding,) = judged(plan)
    assert (finding.verdict, finding.kind, finding.name) == (Verdict.UNKNOWN, "Project", "chris")
    assert finding.why.startswith("nothing listens at http://127.0.0.1:1/v3; ")


def test_drift_that_is_seen_outweighs_what_is_not():
    both = [
        Finding(verdict=Verdict.UNKNOWN, kind="", name="", why=""),
        Finding(verdict=Verdict.DRIFTED, kind="", name="", why=""),
    ]
    assert verdict(both) == Verdict.DRIFTED
    assert verdict(both[:1]) == Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("cores", ["cores"]),
        ('spec.hard["limits.cpu"]', ["spec", "hard", "limits.cpu"]),
        ("rules[0].verbs[1]", ["rules", "0", "verbs", "1"]),
        ('metadata.labels["nerc.mghpcc.org/project"]', ["metadata", "labels", "nerc.mghpcc.org/project"]),
    ],
)
def test_paths_of_the_engine(path, keys):
    assert list(parts(path)) == keys


def test_a_nested_field_is_shown_with_both_values():
    change = step(
        "update",
        QUOTA,
        "chris",
        old={"spec": {"hard": {"limits.cpu": "4"}}},
        new={"spec": {"hard": {"limits.cpu": "8"}}},
        outputs={"spec": {"hard": {"limits.cpu": "6"}}},
        fields=['spec.hard["limits.cpu"]'],
    )
    (made,) = Plan.of([change]).changes()
    assert made.differences() == [('spec.hard["limits.cpu"]', "6", "8")]
