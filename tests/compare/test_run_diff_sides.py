"""What changed between two runs: the interval, the judgement, refusals, and that nothing false is called faster."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import HealthCheck, given, settings
from scipy import stats

from scorematrix.compare.run_diff import RunChange, RunRecord, compare_runs
from scorematrix.compare.run_diff_sides import correct_changes, judge_change
from scorematrix.compare.schema import Gate
from scorematrix.compare.statistics import p_beyond, welch_interval
from scorematrix.report.run_diff import change_lines, change_markdown
from scorematrix.results import Round
from tests.factory import ENVIRONMENT, changed, make_params, make_run, make_scores
from tests.report.test_no_winner import BASE, make, runs

NAMED = ("faster", "slower", "no_change")


def test_interval_is_scipys_welch_on_logarithms() -> None:
    over, under = [1.0, 1.1, 0.9, 1.3, 1.02], [2.0, 2.1, 1.97, 2.05, 2.2, 1.9, 2.4]
    found = welch_interval(over, under)
    theirs = stats.ttest_ind([math.log(v) for v in over], [math.log(v) for v in under], equal_var=False)
    low, high = (math.exp(v) for v in theirs.confidence_interval(0.95))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.freedom == pytest.approx(theirs.df) and found.n == 5
    assert p_beyond(found, 0.0) == pytest.approx(theirs.pvalue)
    point = welch_interval([2.0, 2.0], [1.0, 1.0, 1.0])
    assert (point.center, point.low, point.high) == pytest.approx((2, 2, 2))
    for bad in ([1.0], [1.0, 0.0], [1.0, math.nan]):
        with pytest.raises(ValueError, match="values="):
            welch_interval(bad, under)


def test_interval_covers_where_sets_differ_in_size_and_scatter() -> None:
    """5 rounds that scatter against 10 that do not: the true ratio, 1, is missed about once in twenty."""
    import numpy as np

    rng, inside = np.random.default_rng(7), 0
    for _ in range(2000):
        found = welch_interval(np.exp(rng.normal(0, 0.1, 5)), np.exp(rng.normal(0, 0.01, 10)))
        inside += found.low <= 1 <= found.high
    assert 0.935 <= inside / 2000 <= 0.965


def ratio(center: float, scatter: float = 0.001, n: int = 5):
    values = [center * math.exp(scatter * (-1) ** i) for i in range(n)]
    return welch_interval(values, [math.exp(scatter * (-1) ** i) for i in range(5)])


def gate(status: str) -> list[Gate]:
    return [Gate(name="g", status=status, detail="d")]


JUDGED = {
    "faster": (dict(ratio=ratio(1.2)), "faster"),
    "slower": (dict(ratio=ratio(0.8)), "slower"),
    "alike": (dict(ratio=ratio(1.01)), "no_change"),
    "crosses the margin": (dict(ratio=ratio(1.04, 0.03)), "not_enough_evidence"),
    "a difference might be missed": (dict(ratio=ratio(1.01), tie_gates=gate("undecided")), "not_enough_evidence"),
    "beyond the margin, within what controls scatter": (dict(ratio=ratio(1.05), margin=0.1), "not_enough_evidence"),
    "four rounds": (dict(ratio=ratio(2.0, n=4)), "not_enough_evidence"),
    "no ratio": (dict(ratio=None), "not_enough_evidence"),
    "rounds are missing": (dict(ratio=ratio(2.0), n_missing=1), "not_enough_evidence"),
    "a gate is open": (dict(ratio=ratio(2.0), gates=gate("not_run")), "not_enough_evidence"),
    "a gate failed": (dict(ratio=ratio(2.0), gates=gate("failed")), "invalid"),
    "a control failed": (dict(ratio=ratio(2.0), tie_gates=gate("failed")), "invalid"),
    "missing": (dict(ratio=ratio(2.0), missing=["OLD skipped it"], gates=gate("failed")), "missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", JUDGED)
def test_judged(case: str) -> None:
    changes, state = JUDGED[case]
    found = judge_change(
        **(dict(missing=[], gates=gate("passed"), n_missing=0, margin=0.03, tie_margin=0.03) | changes)
    )
    assert found.state == state
    if state in ("missing", "invalid"):
        assert found.ratio is None, "a figure would be believed"


def test_many_sides_are_counted_together() -> None:
    """A p of 0.03 is a change of one side alone, and chance among four."""
    lone = judge_change(missing=[], gates=[], n_missing=0, ratio=ratio(1.05, 0.01), margin=0.03, tie_margin=0.03)
    p = p_beyond(lone.ratio, math.log1p(0.03))
    assert lone.state == "faster" and 0.0125 < p < 0.05
    assert [c.state for c in correct_changes([lone])] == ["faster"]
    four = correct_changes([lone] * 4)
    assert [c.state for c in four] == ["not_enough_evidence"] * 4 and four[0].p_adjusted == pytest.approx(4 * p)
    assert "Holm" in four[0].reason


def record(word: str, made: tuple) -> RunRecord:
    manifest, workload, readiness, rounds = made
    own = [changed(r, run_id=word) for r in rounds]  # measured apart: another seal
    return RunRecord(word, word.lower(), manifest, workload, readiness, own)


def two_runs(old: dict | None = None, new: dict | None = None, **params: object) -> RunChange:
    plan = make_params(comparisons=[{"jax": "cpu", "pytorch": "cpu"}], **params)
    made = [record(w, make_run(plan, **(o or {}))) for w, o in (("OLD", old), ("NEW", new))]
    return compare_runs(*made)


def times(factor: float, scatter: float = 0.001, backend: str = "jax"):
    return lambda b, index, chunk: (
        (2.0 + 4.0 / chunk) * (factor if b == backend else 1.0) * math.exp(scatter * (-1) ** index)
    )


def edited(backend: str, index: int | None = None, **changes: object):
    return lambda r: changed(r, **changes) if r.backend == backend and index in (None, r.index) else r


def wrong(round_: Round) -> Round:
    if round_.backend != "jax":
        return round_
    cells = [c.model_dump() | {"scores": make_scores(noise=0.04, seed=3)} for c in round_.cells]
    return changed(round_, cells=cells)


def only_before(index: int):
    return lambda planned: planned.backend != "jax" or planned.index < index


OTHER_MACHINE = ENVIRONMENT.model_copy(update={"machine_sha256": "n" * 64, "cpu": "Other CPU"}).model_dump()
DTYPE = {"record": {"framework": "jax", "device": "cpu", "dtype": "bfloat16", "precision": "bfloat16"}}
OLD, SAME = {"seconds": times(1.0)}, {"seconds": times(1.0)}
FASTER = {"seconds": times(0.8)}
TABLE = {  # (old, new) -> state of jax, of pytorch, whether it is a framework's change on one machine
    "nothing": (OLD, SAME, "no_change", "no_change", True),
    "jax faster": (OLD, FASTER, "faster", "no_change", True),
    "jax slower": (OLD, {"seconds": times(1.25)}, "slower", "no_change", True),
    "a little": (OLD, {"seconds": times(0.97, 0.02)}, "not_enough_evidence", "not_enough_evidence", True),
    "four rounds each": (OLD | {"keep": only_before(5)}, FASTER | {"keep": only_before(5)}, "not_enough_evidence",
                         "no_change", True),
    "new is going on": (OLD, FASTER | {"keep": only_before(4)}, "not_enough_evidence", "no_change", True),
    # The other side's control rounds show that a change of it would have been found.
    "no jax now": (OLD, FASTER | {"keep": only_before(0)}, "missing", "no_change", True),
    "no jax before": (OLD | {"keep": only_before(0)}, FASTER, "missing", "no_change", True),
    "jax wrong now": (OLD, FASTER | {"edit": wrong}, "invalid", "invalid", True),
    "jax wrong before": (OLD | {"edit": wrong}, FASTER, "invalid", "invalid", True),
    "another machine": (OLD, FASTER | {"edit": lambda r: changed(r, environment=OTHER_MACHINE)}, "faster", "no_change",
                        False),
    "two machines in one run": (OLD, FASTER | {"edit": edited("jax", 3, environment=OTHER_MACHINE)}, "invalid",
                                "no_change", False),
    "another format": (OLD, FASTER | {"edit": edited("jax", None, **DTYPE)}, "invalid", "no_change", True),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE)
def test_two_runs(case: str) -> None:
    old, new, jax, pytorch, one_machine = TABLE[case]
    change = two_runs(old, new, rounds=5)
    sides = {s.backend: s for s in change.sides}
    assert {name: s.change.state for name, s in sides.items()} == {"jax": jax, "pytorch": pytorch}, sides
    assert sides["jax"].change.state == "missing" or sides["jax"].same_device == one_machine
    text = "\n".join(change_lines(change))
    system = [line for line in change_lines(change) if line.startswith("System comparison, jax")]
    assert bool(system) == (not one_machine and jax in NAMED), text
    if jax == "invalid" and pytorch == "invalid":
        assert re.search(r"(OLD|NEW): .*gate", text)


def test_a_change_has_its_ratio_and_interval() -> None:
    change = two_runs(OLD, FASTER, rounds=5)
    jax = change.sides[0]
    assert jax.change.ratio.center == pytest.approx(1.25, rel=1e-3) and jax.change.ratio.low > 1.2
    line = change_lines(change)[1]
    assert all(word in line for word in ("jax portable on cpu", "FASTER", "1.250", f"{jax.change.ratio.low:.3f}")), line
    assert [(v.old.verdict, v.new.verdict, v.changed) for v in change.verdicts] == [("tie", "jax", True)]
    assert any("TIE" in line and "JAX" in line for line in change_lines(change))


def test_what_else_is_different_is_listed() -> None:
    newer = ENVIRONMENT.model_copy(update={"packages": {"jax": "9"}, "git_commit": "d" * 40, "cpu": "Other"})
    settings_ = {"framework": "jax", "device": "cpu", "dtype": "float32", "precision": "tf32"}
    edit = lambda r: changed(r, environment=newer.model_dump(), **({"record": settings_} if r.backend == "jax" else {}))  # noqa: E731
    change = two_runs(OLD, SAME | {"edit": edit})
    found = {(d.kind, d.where, d.what): (d.old, d.new) for d in change.differences}
    assert found == {
        ("machine", "cpu", "processor"): ("Test CPU", "Other"),
        ("software", "cpu", "commit"): ("c" * 12, "d" * 12),
        ("software", "cpu", "jax"): ("not there", "9"),
        ("settings", "jax portable on cpu", "precision"): ("float32", "tf32"),
    }
    for text in ("\n".join(change_lines(change)), change_markdown(change)):
        for words in ("Test CPU", "Other", "tf32", "not there"):
            assert words in text
    assert two_runs(OLD, SAME).differences == []


def test_skip_notices_of_both_runs_stand_in_every_text() -> None:
    plan = make_params(rounds=5)  # names a TPU and a GPU that are not here
    change = compare_runs(record("OLD", make_run(plan)), record("NEW", make_run(plan)))
    notices = [n.text for n in change.new.comparison.notices]
    assert len(notices) == 2
    markdown = re.sub(r"\\(.)", r"\1", change_markdown(change)).replace("&lt;", "<").replace("&gt;", ">")
    for notice in notices:
        assert "\n".join(change_lines(change)).count(notice) == 1 and notice in markdown
    assert change_lines(change)[0].startswith("PARTIAL") and change_markdown(change).startswith("# PARTIAL")
    missing = [s for s in change.sides if s.target != "cpu"]
    assert missing and all(s.change.state == "missing" and "skipped" in s.change.reason for s in missing)


REFUSED = {
    "other plan": (dict(rounds=6), {}, r"params_sha256.*OLD.*params.rounds=5.*6"),
    "other weights": ({}, {"weights_sha256": "x" * 64}, "weights_sha256.*OLD.*wwwwww.*NEW.*xxx"),
    "other protocol": ({}, {"protocol": "0"}, r"protocol.*OLD \(old\).* 2.*NEW \(new\).* 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_other_work_is_refused_with_field_and_both_values(case: str) -> None:
    params, round_changes, words = REFUSED[case]
    old = record("OLD", make_run(make_params()))
    new = record("NEW", make_run(make_params(**params), edit=lambda r: changed(r, **round_changes)))
    with pytest.raises(ValueError, match=words):
        compare_runs(old, new)


def test_other_workload_and_the_same_measurements_are_refused() -> None:
    old, new = record("OLD", make_run()), record("NEW", make_run())
    other = new.manifest.model_copy(update={"workload_sha256": "e" * 64})
    with pytest.raises(ValueError, match=r"workload_sha256.*OLD.*NEW \(new\).*eeeeeeeeeeee"):
        compare_runs(old, RunRecord("NEW", "new", other, new.workload, new.readiness, new.rounds))
    copy = RunRecord("NEW", "copy", old.manifest, old.workload, old.readiness, old.rounds)
    with pytest.raises(ValueError, match="jax.portable.cpu|pytorch.portable.cpu|reference"):
        compare_runs(old, copy)


def check(change: RunChange) -> None:
    named = [s for s in change.sides if s.change.state in NAMED]
    for text in ("\n".join(change_lines(change)[1 : 1 + len(change.sides)]), change_markdown(change)):
        for word, state in (("FASTER", "faster"), ("SLOWER", "slower"), ("NO CHANGE", "no_change")):
            assert len(re.findall(rf"{word}, [\d.]+ times", text)) == sum(s.change.state == state for s in named)
    for side in named:
        found = side.change.ratio
        assert found.n >= 5
        assert {side.old.state, side.new.state} == {"measured"}
        assert side.change.state != "faster" or found.low > 1.03
        assert side.change.state != "slower" or found.high < 1 / 1.03
        for run in (change.old, change.new):
            own, _ = run.gates((side.backend, side.view, side.target))
            assert {g.status for g in own} == {"passed"}
    for side in change.sides:
        if {"skipped", "not_started", "failed", "partial"} & {side.old.state, side.new.state}:
            assert side.change.state not in NAMED


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(runs, runs)
def test_nothing_missing_invalid_or_undecided_is_called_faster(old: dict, new: dict) -> None:
    plan = {key: old[key] for key in ("rounds", "max_rounds", "controls", "cpu_only")}
    try:
        change = compare_runs(record("OLD", make(old)), record("NEW", make(new | plan)))
    except ValueError as error:
        assert "OLD" in str(error) and "NEW" in str(error)
        return
    check(change)


def test_the_search_meets_every_state() -> None:
    """The property above would hold of a tool that never says anything."""
    cases = {
        "faster": ({"effect": 2.0}, {"effect": 1.0}),
        "slower": ({"effect": 0.5}, {"effect": 1.0}),
        "no_change": ({"effect": 1.0}, {"effect": 1.0}),
        "not_enough_evidence": (
            {"effect": 1.0, "scatter": 0.02, "controls": False},
            {"effect": 1.04, "controls": False},
        ),
        "not_enough_evidence ": ({"effect": 1.0}, {"effect": 1.0, "last_index": 3}),
        "invalid": ({"effect": 1.0}, {"effect": 1.0, "faults": {("jax", 2): "NaN"}}),
        "missing": ({"effect": 1.0}, {"effect": 1.0, "last_index": -1}),
    }
    for state, (old, new) in cases.items():
        change = compare_runs(record("OLD", make(BASE | old)), record("NEW", make(BASE | new)))
        assert change.sides[0].change.state == state.strip(), (state, change.sides[0].change)
        check(change)
