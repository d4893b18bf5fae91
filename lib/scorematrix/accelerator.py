"""An accelerator's first ten minutes, in stages: each is a process, and its result is on disk before the next begins.

A machine that goes away early leaves what was found so far; the same command again keeps the stages that went well.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from pydantic import BaseModel, ConfigDict

from scorematrix.readiness import TARGETS, Machine, Target
from scorematrix.results import read_document, write_document

ROOT = Path(__file__).resolve().parents[2]
PARAMS = {"gpu": "params/first_gpu.yaml", "tpu": "params/first_tpu.yaml", "cpu": "params/first_gpu.yaml"}
# A CPU stands for an accelerator only to see that every stage runs: what is scored is small.
REHEARSAL = (
    "model=random:tiny-qwen3",
    "workload={kind: canonical, query_tokens: 100, n_items: 20, item_tokens: 20, label_ids: [9, 27], seed: 1}",
    "chunk_sizes=[20]",
    "rounds=2",
)


@dataclass(frozen=True)
class Stage:
    """One step: what it runs, and for how long at most."""

    name: str
    command: tuple[str, ...]
    limit_seconds: float
    environment: dict[str, str] = field(default_factory=dict)


class StageRecord(BaseModel):
    """How a stage ended."""

    model_config = ConfigDict(extra="forbid")

    name: str
    command: list[str]
    status: Literal["ok", "failed", "too long"]
    exit_code: int | None
    seconds: float


class Tested(BaseModel):
    """What the device tests found.

    Attributes:
        distances: largest difference of a probability from the exact one, and what is allowed, by engine.
    """

    counts: dict[str, int]
    failed: list[str]
    distances: dict[str, tuple[float, float]]


def find_target(machine: Machine) -> Target:
    """The target that this machine is: its accelerator's, or the CPU.

    Raises:
        ValueError: for an accelerator that is no known target.
    """
    names = [*machine.nvidia, *(n for seen in machine.frameworks.values() for kind, n in seen.devices if kind != "cpu")]
    if not names:
        return TARGETS["cpu"]
    for target in TARGETS.values():
        if any(part in name for part in target.device_names for name in names) and target.n_chips == 1:
            return target
    raise ValueError(f"device={names[0]!r} is none of the known targets; name the nearest by --target")


def plan_stages(target: Target, folder: Path, run_id: str) -> list[Stage]:
    """The stages of a target, in order."""
    scorematrix = (sys.executable, "-m", "scorematrix")
    params = (str(ROOT / PARAMS[target.kind]), *_overrides(target))
    outputs = ("--outputs", str(folder.parents[1]))
    side_by_side = min(5, os.cpu_count() or 1)
    workers = ("-n", str(side_by_side)) if side_by_side > 1 and importlib.util.find_spec("xdist") else ()
    tests = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *workers, "--no-header")
    here = {"SCOREMATRIX_TEST_DEVICE": target.kind}
    return [
        Stage("machine", (*scorematrix, "preflight", *params, *outputs), 120),
        Stage("tests", (*tests, f"--junitxml={folder / 'tests.xml'}", str(ROOT / "tests" / "device")), 240, here),
        Stage("run", (*scorematrix, "run", *params, "--run-id", run_id, *outputs), 420),
        Stage("report", (*scorematrix, "report", run_id, *outputs), 120),
    ]


def _overrides(target: Target) -> Iterator[str]:
    other = "gpu-h100" if target.kind == "tpu" else target.name  # a TPU is JAX's alone
    yield from ("--set", f"comparisons=[{{jax: {target.name}, pytorch: {other}}}]")
    if target.kind == "cpu":
        for assignment in REHEARSAL:
            yield from ("--set", assignment)


def run_stages(
    stages: list[Stage], folder: Path, begins: Callable[[Stage], None] = lambda _: None
) -> Iterator[tuple[StageRecord, bool]]:
    """Run what is not done yet, each stage whatever became of those before it: its record, and whether it was kept.

    Writes NAME.json and NAME.log into the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stage in stages:
        path = folder / f"{stage.name}.json"
        known = read_document(path, StageRecord) if path.is_file() else None
        if known is not None and known.status == "ok" and known.command == list(stage.command):
            yield known, True
            continue
        begins(stage)
        record = _run(stage, folder / f"{stage.name}.log")
        write_document(path, record, indent=1)
        yield record, False


def _run(stage: Stage, log: Path) -> StageRecord:
    start = time.monotonic()
    environment = os.environ | {"PYTHONUNBUFFERED": "1"} | stage.environment
    with log.open("wb") as output:
        process = subprocess.Popen(
            stage.command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = "failed" if process.wait(stage.limit_seconds) else "ok"
        except subprocess.TimeoutExpired:
            status = "too long"
        finally:  # this process being told to end included: no stage outlives it
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    seconds = time.monotonic() - start
    return StageRecord(
        name=stage.name, command=list(stage.command), status=status, exit_code=process.returncode, seconds=seconds
    )


def read_tests(path: Path) -> Tested | None:
    """The device tests' own file, where they wrote one."""
    if not path.is_file():
        return None
    counts: dict[str, int] = {"passed": 0, "failed": 0, "skipped": 0}
    failed: list[str] = []
    distances: dict[str, tuple[float, float]] = {}
    for case in ElementTree.parse(path).iter("testcase"):
        how = "skipped" if case.find("skipped") is not None else "passed"
        if case.find("failure") is not None or case.find("error") is not None:
            how = "failed"
            failed.append(case.get("name", ""))
        counts[how] += 1
        said = {p.get("name", ""): p.get("value", "") for p in case.iter("property")}
        if "engine" in said:
            known, _ = distances.get(said["engine"], (0.0, 0.0))
            distances[said["engine"]] = max(known, float(said["distance"])), float(said["allowed"])
    return Tested(counts=counts, failed=failed, distances=distances)
