"""The study of many chips: paper and simulation agree, all chip time is accounted for, its files are of it."""

from __future__ import annotations

import dataclasses
import json
import sys
from types import ModuleType

import numpy as np
import pytest

from tests.conftest import ROOT

SCALE = ROOT / "outputs" / "reference" / "scale"


@pytest.fixture(scope="module")
def study() -> ModuleType:
    sys.path.insert(0, str(SCALE))
    try:
        import study
    finally:
        sys.path.remove(str(SCALE))
    return study


@pytest.fixture(scope="module")
def model(study: ModuleType) -> ModuleType:
    return sys.modules["scale_model"]


JOBS = {
    # changes of the setting, chips, items, parts that requests are cut into
    "one chip": ({}, 1, 10_000, 1),
    "whole waves": ({}, 8, 40_000, 1),
    "a last wave of one": ({}, 8, 40_500, 1),
    "more chips than requests": ({}, 64, 10_000, 1),
    "requests in parts": ({}, 16, 5_000, 10),
    "out of step": ({}, 16, 2_000_000, 1),
    "the driver is slower than the chips": ({"dispatch_seconds": 0.01}, 64, 400_000, 1),
    "the network is": ({"ingress": 2e6}, 64, 400_000, 1),
    "cold": ({"start_seconds": 60.0}, 8, 40_000, 1),
    "chips are lost all the time": ({"between_losses": 20.0, "restart_seconds": 5.0}, 16, 5_000_000, 1),
    "units that scatter": ({"scatter": 0.2}, 32, 1_000_000, 1),
}


@pytest.mark.parametrize("job", JOBS)
def test_paper_and_simulation_agree(model: ModuleType, job: str) -> None:
    changes, chips, items, shards = JOBS[job]
    on = dataclasses.replace(model.setting("tpu-v6e-1", 0.45), **changes)
    times = [model.simulate(on, chips, items, shards, seed) for seed in range(5)]
    paper = model.on_paper(on, chips, items, shards)
    assert np.mean(times) == pytest.approx(paper.seconds, rel=model.BOUND)
    assert sum(paper.shares.values()) == pytest.approx(1.0) and min(paper.shares.values()) >= 0.0


BOTTLENECKS = {
    # what is changed, chips, items, parts: what most chip time must go to
    "a large job on few chips": ({}, 4, 10**7, 1, "items"),
    "one item a query": ({}, 4, 10**6, 500, "query"),
    "a chip with little bandwidth": ({"bandwidth": 1e10}, 4, 10**6, 1, "weights"),
    "a slow way to the chip": ({"call_seconds": 0.2}, 4, 10**6, 1, "transfer"),
    "a small job that waits for its chips": ({"start_seconds": 60.0}, 16, 10**4, 1, "start"),
    "two requests for many chips": ({}, 256, 10**3, 1, "stragglers"),
    "a driver that cannot keep up": ({"dispatch_seconds": 0.01}, 256, 10**7, 1, "dispatch"),
    "a thin line": ({"ingress": 1e6}, 256, 10**7, 1, "ingress"),
    "chips that hardly live": ({"between_losses": 10.0}, 4, 10**7, 1, "losses"),
}


@pytest.mark.parametrize("case", BOTTLENECKS)
def test_the_first_bottleneck_is_named(model: ModuleType, case: str) -> None:
    changes, chips, items, shards, expected = BOTTLENECKS[case]
    on = dataclasses.replace(model.setting("tpu-v6e-1", 0.45), **changes)
    assert model.on_paper(on, chips, items, shards).bottleneck == expected


def test_losses_and_the_driver_cost_what_one_would_expect(model: ModuleType) -> None:
    """Against figures by hand, not against each other."""
    on = model.setting("tpu-v6e-1", 0.5)
    unit = model.Unit(500)
    assert unit.seconds(on) == pytest.approx(15.640e12 / (918e12 * 0.5) + 48_000 / 8e9 + 0.2e-3, rel=1e-3)
    lossy = dataclasses.replace(on, between_losses=10.0, restart_seconds=10.0)  # half of the time away
    ratio = model.simulate(lossy, 16, 5 * 10**7, 1, 0) / model.simulate(on, 16, 5 * 10**7, 1, 0)
    assert ratio == pytest.approx(2.0, rel=0.1)
    slow = dataclasses.replace(on, dispatch_seconds=0.05)
    assert model.simulate(slow, 256, 10**6, 1, 0) == pytest.approx(2000 * 0.05, rel=0.01)


def test_the_files_are_of_this_study(study: ModuleType, model: ModuleType) -> None:
    found = json.loads((SCALE / "study.json").read_text())
    off = [abs(r["simulated_seconds"] / r["seconds"] - 1) for r in found["rows"] if "simulated_seconds" in r]
    assert len(off) == 114 and max(off) <= model.BOUND
    for row in found["rows"][:: len(found["rows"]) // 40]:
        on = model.setting(row["target"], model.MFU[row["mfu"]], cold=row["cold"])
        again = model.best_on_paper(on, row["chips"], row["items"])
        assert (again.shards, again.bottleneck) == (row["shards"], row["bottleneck"])
        assert again.seconds == pytest.approx(row["seconds"], rel=1e-4)
    readme = (SCALE / "README.md").read_text()
    assert study.tables(found) in readme and "estimate" in readme.lower()
    if not found["prices"]:
        assert "$" not in study.tables(found), "no price without its source"
