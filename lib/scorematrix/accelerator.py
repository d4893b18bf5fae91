"""Test and measure an accelerator in stages. Each stage is a process that writes its result before the next starts.

If the machine goes away, the finished stages stay on disk, and the same command continues after them.
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
# On a CPU the stages are only rehearsed, so the workload is small.
REHEARSAL = (
    "model=random:tiny-qwen3",
    "workload={kind: canonical, query_tokens: 100, n_items: 20, item_tokens: 20, label_ids: [9, 27], seed: 1}",
    "chunk_sizes=[20]",
    "rounds=2",
    "waiting=passive",
)


@dataclass(frozen=True)
class Stage:
    """One step: a command with a time limit."""

    name: str
    command: tuple[str, ...]
    limit_seconds: float
    environment: dict[str, str] = field(default_factory=dict)


class StageRecord(BaseModel):
    """How a stage ended."""

    model_config = ConfigDict(extra="forbid")

    name: str
    command: list[str]
    status: Literal["ok", "failed", "timeout"]
    exit_code: int | None
    seconds: float


@dataclass(frozen=True)
class DeviceTests:
    """Results of the device tests.

    Attributes:
        distances: by engine, the largest error of a probability and its tolerance.
    """

    counts: dict[str, int]
    failed: list[str]
    distances: dict[str, tuple[float, float]]


def find_target(machine: Machine) -> Target:
    """Return the target of this machine's accelerator, or the CPU target without one.

    Raises:
        ValueError: for an unknown accelerator.
    """
    names = [*machine.nvidia, *(n for seen in machine.frameworks.values() for kind, n in seen.devices if kind != "cpu")]
    if not names:
        return TARGETS["cpu"]
    for target in TARGETS.values():
        if any(map(target.is_named, names)) and target.n_chips == 1:
            return target
    raise ValueError(f"device={names[0]!r} is not a known target; pass --target with the nearest one")


def plan_stages(target: Target, folder: Path, run_id: str) -> list[Stage]:
    """Return the stages of a target, in order. Their limits add up to 15 minutes."""
    scorematrix = (sys.executable, "-m", "scorematrix")
    params = (str(ROOT / PARAMS[target.kind]), *_overrides(target))
    outputs = ("--outputs", str(folder.parents[1]))
    n_workers = min(5, len(os.sched_getaffinity(0)))
    workers = ("-n", str(n_workers)) if n_workers > 1 and importlib.util.find_spec("xdist") else ()
    tests = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *workers, "--no-header")
    here = {"SCOREMATRIX_TEST_DEVICE": target.kind}
    return [
        Stage("machine", (*scorematrix, "preflight", *params, *outputs), 120),
        Stage("tests", (*tests, f"--junitxml={folder / 'tests.xml'}", str(ROOT / "tests" / "device")), 240, here),
        Stage("run", (*scorematrix, "run", *params, "--run-id", run_id, *outputs), 420),
        Stage("report", (*scorematrix, "report", run_id, *outputs), 120),
    ]


def _overrides(target: Target) -> Iterator[str]:
    other = "gpu-h100" if target.kind == "tpu" else target.name  # only JAX runs on a TPU
    yield from ("--set", f"comparisons=[{{jax: {target.name}, pytorch: {other}}}]")
    if target.kind == "cpu":
        for assignment in REHEARSAL:
            yield from ("--set", assignment)


def run_stages(
    stages: list[Stage], folder: Path, begins: Callable[[Stage], None] = lambda _: None
) -> Iterator[tuple[StageRecord, bool]]:
    """Run the stages that have not succeeded yet, and yield each record with whether it was kept from an earlier call.

    A failed stage does not stop the next one. Writes NAME.json and NAME.log into the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stage in stages:
        path = folder / f"{stage.name}.json"
        known = read_document(path, StageRecord) if path.is_file() else None
        if known is not None and known.status == "ok" and known.command == list(stage.command):
            yield known, True
            continue
        begins(stage)
        for stale in folder.glob(f"{stage.name}.*"):
            stale.unlink()
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
            status = "timeout"
        finally:  # no stage outlives this process, not even after an interrupt
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    seconds = time.monotonic() - start
    return StageRecord(
        name=stage.name, command=list(stage.command), status=status, exit_code=process.returncode, seconds=seconds
    )


def read_tests(path: Path) -> DeviceTests | None:
    """Read the device tests' JUnit file; None if there is none."""
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
    return DeviceTests(counts, failed, distances)
