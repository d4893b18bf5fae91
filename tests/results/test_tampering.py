"""A finished run folder is edited, and every checksum that a forger could compute is computed anew.

Each edit is refused, or shown, or changes no verdict, or the report's limits say that it cannot be detected.
"""

from __future__ import annotations

import copy
import functools
import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest

from scorematrix.checksum import content_sha256
from scorematrix.compare import Comparison, compare_run
from scorematrix.matrix import Params, plan_rounds, validate_path
from scorematrix.matrix.workloads import floor_flops
from scorematrix.report import render_markdown
from scorematrix.report.banner import cards
from scorematrix.report.check import check_summaries
from scorematrix.report.methods import LIES
from scorematrix.results import Manifest, RunStore
from scorematrix.results.journal import Entry, outcome_of
from tests.factory import FLOOR_FLOPS, changed, true_counts, write_run
from tests.faults.whole_run import Trial, workload

Document = dict[str, Any]
AT = datetime(2026, 1, 1, tzinfo=UTC)
SUMMARIES = ("comparison.json", "report.md", "report.html")
PYTORCH, JAX = "pytorch.portable.cpu", "jax.portable.cpu"


class Folder:
    """The documents of a run folder as plain data.

    Attributes:
        rounds: by name.
        texts: summaries; an edit that touches none of them leaves a folder without, as if they were to be written anew.
    """

    def __init__(self, path: Path) -> None:
        def read(name: str) -> Document:
            return json.loads((path / name).read_text())

        self.path = path
        self.run, self.workload, self.readiness = read("run.json"), read("workload.json"), read("readiness.json")
        self.rounds = {p.stem: read(f"rounds/{p.name}") for p in sorted((path / "rounds").glob("*.json"))}
        self.journal = [json.loads(line) for line in (path / "journal.jsonl").read_text().splitlines()]
        self.texts = {name: (path / name).read_text() for name in SUMMARIES if (path / name).is_file()}
        self._before = copy.deepcopy(self.texts)

    def of(self, backend: str = "", role: str = "", index: int | None = None) -> Iterator[Document]:
        """Yield rounds; without arguments, all."""
        for r in self.rounds.values():
            if backend in ("", r["backend"]) and role in ("", r["role"]) and index in (None, r["index"]):
                yield r

    def write(self) -> None:
        """Write everything, with new checksums."""
        self.workload = sealed(self.workload)
        hashes = {"params_sha256": content_sha256(self.run["params"]), "workload_sha256": self.workload["sha256"]}
        documents = {"workload": self.workload, "run": sealed(self.run | hashes), "readiness": sealed(self.readiness)}
        documents |= {f"rounds/{name}": sealed(r | hashes) for name, r in self.rounds.items()}
        shutil.rmtree(self.path / "rounds")
        (self.path / "rounds").mkdir()
        for name, document in documents.items():
            (self.path / f"{name}.json").write_text(json.dumps(document))
        (self.path / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in self.journal))
        for name, text in self.texts.items():
            (self.path / name).write_text(text)
            if self.texts == self._before:
                (self.path / name).unlink()


def sealed(document: Document) -> Document:
    content = {key: value for key, value in document.items() if key != "sha256"}
    return content | {"sha256": content_sha256(content)}


# A finished run.


def busy(machine: Any, _taken: float) -> tuple[float, float]:
    """Other processes take 30 ms of every eleventh turn."""
    return (0.02, 0.03) if machine.n_turns % 11 == 0 else (0.0, 0.0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in turns, with a journal, summaries, and one round that was measured twice."""
    store = RunStore(tmp_path_factory.mktemp("finished") / "run")
    Trial(store.folder, params={"rounds": 6}, beside=busy).run()
    manifest = store.manifest()
    params = Params.model_validate(manifest.params)
    counts = true_counts(params, workload())
    store.write_workload(workload())
    store.write_manifest(Manifest(**(manifest.model_dump(exclude={"sha256"}) | counts)))
    flops = floor_flops(params, workload())
    now, lines = AT, []
    rounds = {p.name: store.round(p.name) for p in manifest.plan}
    for planned in manifest.plan:
        r = rounds[planned.name]
        first = r.group is None or min(p.position for p in rounds.values() if p.group == r.group) == r.position
        if first:
            now += timedelta(hours=1)
        end = now + timedelta(seconds=round((r.seconds or 0) + 1))
        peak = r.ceilings and r.ceilings.model_copy(
            update={"matmul_flops_per_second": r.ceilings.matmul_flops_per_second * flops / FLOOR_FLOPS}
        )
        again = {"tries": [{"begun_utc": (now - timedelta(seconds=600)).isoformat(), "outcome": "sound"}]}
        is_second = r.name == f"{PYTORCH}.r06"
        if is_second:
            lines += [entry(r.name, "begun", now - timedelta(seconds=600)), entry(r.name, "sound", now)]
        stamps = {"started_utc": now.isoformat(), "finished_utc": end.isoformat(), "ceilings": peak}
        r = changed(r, run_id=manifest.run_id, **stamps, **(again if is_second else {}))
        store.write_round(r)
        lines += [entry(r.name, "begun", now), entry(r.name, outcome_of(r), end)]
    (store.folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    comparison = judged(store.folder)
    store.write_document("comparison.json", comparison)
    store.write_summary("md", render_markdown(comparison), False)
    store.write_summary("html", f"<html><p>Every gate passed.</p>{cards(comparison).html}</html>", False)
    return store.folder


@pytest.fixture(scope="module")
def deferred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a second comparison, whose targets were skipped."""
    folder = write_run(tmp_path_factory.mktemp("deferred") / "run").folder
    (folder / "journal.jsonl").write_text("")
    return folder


def entry(name: str, event: str, at: datetime) -> Document:
    return Entry(at_utc=at.isoformat(), round=name, event=event).model_dump()  # type: ignore[arg-type]


def judged(folder: Path) -> Comparison:
    store = RunStore(folder)
    return compare_run(store.manifest(), store.workload(), store.readiness(), store.rounds())


_known = functools.cache(judged)


# Edits.


def scaled(f: Folder, factor: float, rounds: Iterator[Document], fields: str, some: int = 1) -> None:
    """Scale times of every `some`-th turn: `calls`, or also the clocks `raw`, `handled`, `conductor`, `process`."""
    for r in rounds:
        for cell in r["cells"]:
            for i, turn in enumerate(cell["turns"]):
                if i % some:
                    continue
                calls = cell["call_ns"][turn["pass_index"]]
                if turn["replaced_ns"] is None:
                    calls[turn["request"]] = [int(ns * factor) for ns in calls[turn["request"]]]
                for name in fields.split()[1:]:
                    turn[f"{name}_ns"] = int(turn[f"{name}_ns"] * factor)


CLOCKS = "calls raw handled conductor process"


def rescheduled(f: Folder) -> None:
    """Let every turn begin when the one before it has ended, so that no time is missing."""
    for group in {r["group"] for r in f.of() if r["group"]}:
        turns = [turn for r in f.of() if r["group"] == group for cell in r["cells"] for turn in cell["turns"]]
        now_ns = 0
        for turn in sorted(turns, key=lambda turn: turn["place"]):
            turn["start_ns"] = now_ns
            now_ns += turn["conductor_ns"] + 200_000


def everything_scaled(f: Folder, factor: float) -> None:
    scaled(f, factor, f.of(), CLOCKS)
    rescheduled(f)


def turns_of(f: Folder, name: str, chunk: int = 8) -> list[Document]:
    return cell_of(f, name, chunk)["turns"]


def cell_of(f: Folder, name: str, chunk: int = 8) -> Document:
    return next(c for c in f.rounds[name]["cells"] if c["chunk_size"] == chunk and c["slowdown"] == 1)


def with_cells(rounds: Iterator[Document], edit: Callable[[Document], object]) -> None:
    for r in rounds:
        for cell in r["cells"]:
            edit(cell)


def exchanged(one: Document, other: Document, *keys: str) -> None:
    for key in keys:
        one[key], other[key] = other[key], one[key]


def places(f: Folder) -> None:
    turns = turns_of(f, f"{JAX}.r01")
    exchanged(turns[3], turns[9], "place")


def marks(f: Folder, on: bool) -> None:
    for r in f.of("pytorch", "confirm"):
        for turn in turns_of(f, f"{PYTORCH}.r{r['index']:02d}"):
            turn["disturbed"] = on and (turn["disturbed"] or turn["pass_index"] % 2 == 0)


def marks_with_times(f: Folder) -> None:
    for r in f.of():
        for cell in r["cells"]:
            for turn in cell["turns"]:
                if turn["lap"] % 3 == 0:
                    turn |= {"disturbed": True, "others_ns": 31_000_000}


def forged_replacement(f: Folder) -> None:
    turns = turns_of(f, f"{PYTORCH}.r01")
    turns.append(turns[2] | {"place": turns[-1]["place"] + 1})
    turns[2] |= {"replaced_ns": [2 * turns[2]["raw_ns"]]}


def pass_deleted(rounds: Iterator[Document], which: int, with_turns: bool = True) -> None:
    for r in rounds:
        for cell in r["cells"]:
            del cell["call_ns"][which]
            if with_turns:
                cell["turns"] = [t for t in cell["turns"] if t["pass_index"] != which]
                for t in cell["turns"]:
                    t["pass_index"] -= t["pass_index"] > which


def pass_twice(f: Folder) -> None:
    cell = cell_of(f, f"{PYTORCH}.r01")
    cell["call_ns"].append(cell["call_ns"][0])
    laps, n = max(t["lap"] for t in cell["turns"]), len(cell["call_ns"]) - 1
    cell["turns"] += [t | {"pass_index": n, "lap": laps + 1} for t in cell["turns"] if t["pass_index"] == 0]


def moved_scores(cell: Document) -> None:
    cell["scores"] = [[[p * 0.9, 1 - p * 0.9] for p, _ in rows] for rows in cell["scores"]]


def drawn(f: Folder, rounds: Iterator[Document], edit: Callable[[Document], object]) -> None:
    for r in rounds:
        for cell in r["cells"]:
            for turn in cell["turns"]:
                if turn["fresh_seed"] is not None:
                    edit(turn)


def without_turns(f: Folder, reason: str | None) -> None:
    for r in f.of():
        if r["role"] != "reference":
            r |= {"group": None, "alone_because": reason, "pipe_ns": None}
            for cell in r["cells"]:
                cell["turns"] = []


def copied_round(f: Folder) -> None:
    """The cells of one round take the place of another's."""
    f.rounds[f"{PYTORCH}.r02"]["cells"] = copy.deepcopy(f.rounds[f"{PYTORCH}.r01"]["cells"])


def copied_file(f: Folder) -> None:
    f.rounds[f"{PYTORCH}.r07"] = f.rounds[f"{PYTORCH}.r01"] | {"index": 7, "position": 99}


def sides_exchanged(f: Folder, index: int | None = None) -> None:
    for jax in list(f.of("jax", "confirm", index)):
        exchanged(jax, f.rounds[f"{PYTORCH}.r{jax['index']:02d}"], "cells")


def control_exchanged(f: Folder, copied: bool = False) -> None:
    for control in f.of(role="control"):
        twin = f"{control['backend']}.portable.cpu.r{control['index']:02d}"
        mine, its = cell_of(f, twin.replace(".r", ".control.r")), cell_of(f, twin)
        keys = ("call_ns", "turns", "scores")
        if copied:
            mine |= {key: copy.deepcopy(its[key]) for key in keys}
        else:
            exchanged(mine, its, *keys)


def replanned(f: Folder, **params: object) -> None:
    """Change params, and plan anew with them; rounds that are no longer planned are deleted."""
    f.run["params"] |= params
    plan = plan_rounds(Params.model_validate(f.run["params"]))
    f.run["plan"] = [p.model_dump() for p in plan]
    f.rounds = {p.name: f.rounds[p.name] | {"position": p.position} for p in plan if p.name in f.rounds}


def fewer_planned(f: Folder) -> None:
    f.run["plan"] = [p for p in f.run["plan"] if p["index"] < 6]
    f.rounds = {name: r for name, r in f.rounds.items() if r["index"] < 6}


def planned_in_other_order(f: Folder) -> None:
    one, other = f.run["plan"][1], f.run["plan"][2]
    exchanged(one, other, "position")
    for p in (one, other):
        f.rounds[f"{p['backend']}.{p['view']}.{p['target']}.r{p['index']:02d}"]["position"] = p["position"]


def more_planned(f: Folder) -> None:
    f.run["plan"] += [p | {"index": 7, "position": p["position"] + 50} for p in f.run["plan"] if p["index"] == 6]


def no_controls(f: Folder, planned: bool) -> None:
    if not planned:
        f.run["plan"] = [p for p in f.run["plan"] if p["role"] != "control"]
    f.rounds = {name: r for name, r in f.rounds.items() if r["role"] != "control"}


def longer_item(f: Folder) -> None:
    f.workload["requests"][0]["items_ids"][0] = [*f.workload["requests"][0]["items_ids"][0], 5]


def other_token(f: Folder) -> None:
    f.workload["requests"][0]["items_ids"][0] = [5, *f.workload["requests"][0]["items_ids"][0][1:]]


def item_dropped(f: Folder) -> None:
    f.workload["requests"][0]["items_ids"].pop()


def tuning(f: Folder) -> None:
    for r in f.of("pytorch", "tuning"):
        for cell in r["cells"]:
            scaled(f, 0.5 if cell["chunk_size"] == 4 else 1.0, iter([r | {"cells": [cell]}]), CLOCKS)
    rescheduled(f)


def tries_forgotten(f: Folder, with_journal: bool) -> None:
    name = f"{PYTORCH}.r06"
    f.rounds[name]["tries"] = []
    if with_journal:
        first = next(i for i, line in enumerate(f.journal) if line["round"] == name)
        del f.journal[first : first + 2]


def lines_of(f: Folder, name: str) -> list[Document]:
    return [line for line in f.journal if line["round"] == name]


def journal_reordered(f: Folder) -> None:
    one, other = lines_of(f, f"{PYTORCH}.r06")[1:3]
    i, j = f.journal.index(one), f.journal.index(other)
    f.journal[i], f.journal[j] = other, one


def forged_try(f: Folder) -> None:
    f.journal[:0] = [entry(f"{JAX}.r03", "begun", AT), entry(f"{JAX}.r03", "sound", AT)]


def merged(f: Folder) -> None:
    f.rounds[f"{JAX}.r03"]["run_id"] = "elsewhere"
    f.journal.append(entry(f"{JAX}.r03", "merged", AT))


def shifted(r: Document, field_: str, hours: float) -> None:
    r[field_] = (datetime.fromisoformat(r[field_]) + timedelta(hours=hours)).isoformat()


def in_json(f: Folder, edit: Callable[[Document], object]) -> None:
    content = json.loads(f.texts["comparison.json"])
    edit(content)
    f.texts["comparison.json"] = json.dumps(content)


def in_text(f: Folder, name: str, old: str, new: str) -> None:
    assert old in f.texts[name]
    f.texts[name] = f.texts[name].replace(old, new)


def skipped(f: Folder) -> None:
    state = next(s for s in f.readiness["states"] if s["backend"] == "jax")
    state |= {"state": "skipped", "reason": "capacity", "evidence": "no chip", "next_step": "wait"}


def no_skips(f: Folder) -> None:
    for state in f.readiness["states"]:
        state |= {"state": "ready", "reason": None, "next_step": None}


class Edit(NamedTuple):
    """An edit and what must come of it.

    Attributes:
        outcome: refused: an error. shown: a gate, a warning, or `validate`'s description. same: equal verdicts and
            nothing else. limit: not detected.
        words: what the error, the finding or the report's limits must contain.
    """

    name: str
    edit: Callable[[Folder], object]
    outcome: Literal["refused", "shown", "same", "limit"]
    words: str = ""
    base: str = "finished"


def confirm(f: Folder) -> Iterator[Document]:
    return f.of("pytorch", "confirm")


def fields(rounds: Iterator[Document], part: str = "", **changes: object) -> None:
    """Change fields of rounds, or of a part of them."""
    for r in rounds:
        (r[part] if part else r).update(changes)


R3 = f"{PYTORCH}.r03"
EDITS = [
    # Times.
    Edit("calls of one round", lambda f: scaled(f, 0.7, iter([f.rounds[R3]]), "calls"), "shown", R3),
    Edit("calls of one side", lambda f: scaled(f, 0.7, confirm(f), "calls"), "shown", "clocks pytorch"),
    Edit("calls of all rounds", lambda f: scaled(f, 0.7, f.of(), "calls"), "shown", "two clocks"),
    Edit("calls and raw clock", lambda f: scaled(f, 0.7, confirm(f), "calls raw"), "shown", "outside of its calls"),
    Edit("every clock of one side", lambda f: scaled(f, 0.7, confirm(f), CLOCKS), "shown", "outside of its calls"),
    Edit("other side slower", lambda f: scaled(f, 1.4, f.of("jax", "confirm"), CLOCKS), "shown", "before turn"),
    Edit("every third turn", lambda f: scaled(f, 0.5, confirm(f), CLOCKS, 3), "shown", "outside of its calls"),
    Edit(
        "every clock of one side and its control, and the schedule",
        lambda f: (scaled(f, 0.7, f.of("pytorch"), CLOCKS), rescheduled(f)), "limit", "every clock and turn",
    ),
    Edit("all times, five times as fast", lambda f: everything_scaled(f, 0.2), "shown", "physics"),
    Edit("warm-up", lambda f: with_cells(f.of(), lambda c: c.update(warmup_ns=[[[1]]])), "same"),
    Edit("duration of a round", lambda f: f.rounds[R3].update(seconds=3.0), "shown", "took 3 s"),
    Edit("duration of the run", lambda f: fields(f.of(), seconds=9e4), "shown", "overlap"),
    # Turns.
    Edit("start of a turn", lambda f: turns_of(f, R3)[4].update(start_ns=1), "shown", "before turn"),
    Edit("wait for idle threads", lambda f: turns_of(f, R3)[4].update(rest_ns=10**8), "shown", "before turn"),
    Edit("places exchanged", places, "shown", "before turn"),
    Edit("clean turns marked", lambda f: marks(f, True), "shown", "disturbed mark"),
    Edit("marks removed", lambda f: marks(f, False), "shown", "disturbed mark"),
    Edit("marks with processor time", marks_with_times, "limit", "processor time of other processes"),
    Edit("a turn forged as replaced", forged_replacement, "shown", "before turn"),
    Edit("a pass deleted", lambda f: pass_deleted(confirm(f), 4), "shown", "has no turn in lap"),
    Edit("the last pass deleted", lambda f: pass_deleted(confirm(f), 8), "shown", "has no turn in lap"),
    Edit("a pass deleted, not its turns", lambda f: pass_deleted(confirm(f), 4, False), "refused", "pass that call_ns"),
    Edit("a lap deleted everywhere", lambda f: [pass_deleted(f.of("", role), 8) for role in ("confirm", "control")],
         "limit", "laps deleted"),
    Edit("a pass twice", pass_twice, "shown", "before turn"),
    Edit("the conductor's times removed",
         lambda f: [t.update(conductor_ns=None) for t in turns_of(f, R3)], "shown", "did not time"),
    Edit("turns removed with a reason", lambda f: without_turns(f, "a TPU"), "shown", "took no turns"),
    Edit("turns removed", lambda f: without_turns(f, None), "shown", "no drawn tokens"),
    # Scores.
    Edit("scores of a cell", lambda f: moved_scores(cell_of(f, R3)), "shown", "reference pytorch"),
    Edit("scores of a side", lambda f: with_cells(f.of("pytorch"), moved_scores), "shown", "reference pytorch"),
    Edit("scores of the reference", lambda f: with_cells(f.of(role="reference"), moved_scores), "shown", "reference"),
    Edit("scores of all", lambda f: with_cells(f.of(), moved_scores), "same"),
    Edit("scores of drawn tokens", lambda f: drawn(
        f, confirm(f), lambda t: t.update(fresh_scores=[[b, a] for a, b in t["fresh_scores"]])),
         "shown", "drawn tokens"),
    Edit("seeds of drawn tokens", lambda f: drawn(f, confirm(f), lambda t: t.update(fresh_seed=1)), "shown", "tokens"),
    Edit("no drawn tokens", lambda f: drawn(f, f.of(), lambda t: t.update(fresh_seed=None, fresh_scores=None)),
         "shown", "no drawn tokens"),
    # Counts and rates.
    Edit("peak of one side", lambda f: fields(f.of("jax", "tuning"), "ceilings", matmul_flops_per_second=1e15),
         "shown", "matmul peak"),
    Edit("peak of all", lambda f: fields(f.of(role="tuning"), "ceilings", matmul_flops_per_second=1.0),
         "shown", "physics"),
    Edit("fewest operations", lambda f: f.run.update(floor_flops=1), "refused", "floor_flops"),
    Edit("operations of a call", lambda f: f.run["call_flops"].update({"8": 1}), "refused", "call_flops"),
    Edit("tokens of a pass", lambda f: f.run["call_tokens"].update({"8": 1}), "refused", "call_tokens"),
    Edit("a compile", lambda f: cell_of(f, R3).update(compiles_in_window=1), "shown", "1 compiles while timed"),
    Edit("peak memory", lambda f: cell_of(f, R3).update(peak_host_bytes=1), "same"),
    # Machine and software.
    Edit("machine of a round", lambda f: fields(f.of("pytorch", "confirm", 3), "environment", machine_sha256="x"),
         "shown", "device"),
    Edit("machine of all", lambda f: fields(f.of(), "environment", machine_sha256="x"), "same"),
    Edit("packages of a round", lambda f: fields(f.of("pytorch", "confirm", 3), "environment", packages={"torch": "9"}),
         "shown", "packages differ"),
    Edit("packages of all", lambda f: fields(f.of(), "environment", packages={"torch": "9"}),
         "limit", "software versions"),
    Edit("threads of a side", lambda f: fields(f.of("pytorch"), "environment", affinity=[0, 1], variables={}),
         "shown", "cores"),
    Edit("dtype of a side", lambda f: fields(f.of("pytorch"), "record", dtype="bfloat16"), "shown", "dtype"),
    Edit("weights of a side", lambda f: fields(f.of("pytorch"), weights_sha256="0" * 64), "shown", "weights"),
    Edit("weights of all", lambda f: fields(f.of(), weights_sha256="0" * 64), "limit", "weights"),
    Edit("protocol of all", lambda f: fields(f.of(), protocol="1"), "shown", "plan not checked"),
    Edit("commit of a round", lambda f: fields(f.of("pytorch", "confirm", 3), "environment", git_commit="d" * 40),
         "shown", "different commits"),
    # What a round is.
    Edit("role", lambda f: f.rounds[R3].update(role="tuning"), "refused", "role='tuning'"),
    Edit("view", lambda f: f.rounds[R3].update(view="best_native"), "refused", R3),
    Edit("target", lambda f: f.rounds[R3].update(target="gpu-g4"), "refused", R3),
    Edit("way of waiting", lambda f: f.rounds[R3].update(waiting="spinning"), "refused", "waiting"),
    Edit("position", lambda f: f.rounds[R3].update(position=99), "refused", "position"),
    Edit("cells of another round", copied_round, "shown", "same times"),
    Edit("a round under another index", copied_file, "refused", f"{PYTORCH}.r07"),
    Edit("sides exchanged", sides_exchanged, "shown", "A/A control"),
    Edit("sides exchanged in a round", lambda f: sides_exchanged(f, 3), "shown", "interval"),
    Edit("controls exchanged with their twins", control_exchanged, "limit", "exchanged with its control"),
    Edit("controls copied from their twins", lambda f: control_exchanged(f, True), "shown", "same times"),
    Edit("tuning", tuning, "shown", "choose chunk 4"),
    Edit("run of a round", lambda f: f.rounds[R3].update(run_id="other"), "refused", "measured in run other"),
    Edit("run of all", lambda f: [d.update(run_id="other") for d in (f.run, *f.of())], "same"),
    Edit("a merged round", merged, "shown", "2 runs are merged"),
    # Journal.
    Edit("start of a round", lambda f: shifted(f.rounds[R3], "started_utc", -1), "refused", "started_utc"),
    Edit("end of a round", lambda f: shifted(f.rounds[R3], "finished_utc", 1), "refused", "finished_utc"),
    Edit("end before the start", lambda f: shifted(f.rounds[R3], "finished_utc", -9), "shown", "set back during 1"),
    Edit("earlier tries", lambda f: tries_forgotten(f, False), "refused", "earlier try"),
    Edit("earlier tries and their lines", lambda f: tries_forgotten(f, True), "limit", "measured again"),
    Edit("journal deleted", lambda f: f.journal.clear(), "shown", "not in its journal"),
    Edit("lines reordered", journal_reordered, "refused", f"{PYTORCH}.r06"),
    Edit("outcome in the journal", lambda f: lines_of(f, R3)[-1].update(event="failed"), "refused", R3),
    Edit("a forged try", forged_try, "refused", f"{JAX}.r03"),
    Edit("an end in the journal", lambda f: shifted(lines_of(f, R3)[-1], "at_utc", -1), "refused", R3),
    # Plan, params, workload.
    Edit("fewer rounds planned", fewer_planned, "refused", "plan"),
    Edit("planned in another order", planned_in_other_order, "refused", "plan"),
    Edit("more rounds planned", more_planned, "refused", "plan"),
    Edit("controls not planned", lambda f: no_controls(f, False), "refused", "plan"),
    Edit("controls deleted", lambda f: no_controls(f, True), "shown", "control"),
    Edit("seed", lambda f: f.run["params"].update(seed=8), "refused", "plan"),
    Edit("tuning rounds", lambda f: f.run["params"].update(tuning_rounds=2), "refused", "plan"),
    Edit("confirmation rounds", lambda f: f.run["params"].update(rounds=5), "refused", "plan"),
    Edit("most rounds", lambda f: f.run["params"].update(max_rounds=40), "refused", "plan"),
    Edit("rounds and plan", lambda f: replanned(f, rounds=5), "limit", "with their plan"),
    Edit("margin", lambda f: f.run["params"].update(margin=0.5), "limit", "margin"),
    Edit("disturbed share", lambda f: f.run["params"].update(disturbed_share=0.9), "shown", "disturbed mark"),
    Edit("an unknown parameter", lambda f: f.run["params"].update(zeal=1), "shown", "plan not checked"),
    Edit("order of the compared", lambda f: f.run["params"].update(comparisons=[{"pytorch": "cpu", "jax": "cpu"}]),
         "same"),
    Edit("a token", other_token, "limit", "tokens"),
    Edit("a longer item", longer_item, "refused", "call_tokens"),
    Edit("an item less", item_dropped, "refused", "call_tokens"),
    Edit("date and version of the run", lambda f: f.run.update(created_utc=AT.isoformat(), scorematrix="9"), "same"),
    # Readiness.
    Edit("a measured side skipped", skipped, "shown", "readiness.json"),
    Edit("skips removed", no_skips, "shown", "rounds", "deferred"),
    Edit("reason of a skip", lambda f: [s.update(evidence="sold out") for s in f.readiness["states"]],
         "limit", "reason of a skip", "deferred"),
    # Summaries.
    Edit("verdict in comparison.json", lambda f: in_json(f, lambda c: c["contrasts"][0].update(verdict="pytorch")),
         "refused", "comparison.json: contrasts[0].verdict"),
    Edit("ratio in comparison.json", lambda f: in_json(f, lambda c: c["contrasts"][0]["effect"].update(ratio=1.4)),
         "refused", "comparison.json: contrasts[0].effect"),
    Edit("contrast deleted from comparison.json", lambda f: in_json(f, lambda c: c["contrasts"].clear()),
         "refused", "comparison.json: number of contrasts"),
    Edit("verdict in report.md", lambda f: in_text(f, "report.md", "JAX is", "PyTorch is"), "refused", "report.md"),
    Edit("verdict in report.html", lambda f: in_text(f, "report.html", "JAX is", "PyTorch is"),
         "refused", "report.html"),
    Edit("text in report.html", lambda f: in_text(f, "report.html", "Every gate", "No gate"),
         "limit", "text in a report"),
]  # fmt: skip


def findings(comparison: Comparison) -> set[str]:
    gates = {f"{g.name} {g.status}: {g.detail}" for c in comparison.contrasts for g in c.gates}
    open_ = {c.reason for c in comparison.contrasts if c.winner is None}
    return gates | open_ | set(comparison.warnings) | {notice.text for notice in comparison.notices}


def verdicts(comparison: Comparison) -> list[tuple]:
    return [(c.verdict, c.effect) for c in comparison.contrasts]


def test_the_run_itself_is_sound(finished: Path) -> None:
    (contrast,) = judged(finished).contrasts
    assert contrast.verdict == "jax" and not [g for g in contrast.gates if g.status != "passed"]
    assert validate_path(finished) == "a sound run with 21 rounds"
    check_summaries(RunStore(finished))


@pytest.mark.parametrize("edit", EDITS, ids=lambda e: e.name)
def test_an_edit_is_refused_or_shown_or_a_known_limit(
    edit: Edit, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    original = request.getfixturevalue(edit.base)
    folder = Path(shutil.copytree(original, tmp_path / "run"))
    edited = Folder(folder)
    edit.edit(edited)
    edited.write()
    before = _known(original)
    try:
        said = validate_path(folder) if edit.base == "finished" else ""
        check_summaries(RunStore(folder))
        after = judged(folder)
    except ValueError as error:
        assert edit.outcome == "refused" and edit.words in str(error), str(error)
        return
    new = findings(after) - findings(before) | set(said.split("; ")[1:])
    alarms = [one for one in new if " failed: " in one or one in after.warnings or one in said]
    if edit.outcome == "shown":
        assert any(edit.words in one for one in new), new
        winners = [c.verdict for c in after.contrasts if c.winner]
        assert alarms or "pytorch" not in winners
    elif edit.outcome == "same":
        assert verdicts(after) == verdicts(before) and not alarms, alarms
    else:
        assert edit.outcome == "limit" and not alarms, alarms
        assert edit.words in " ".join(LIES)
