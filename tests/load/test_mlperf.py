"""MLPerf LoadGen's second opinion: its verdict is kept, and what it does not see, failures, is counted beside it."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from scorematrix import ScoreRequest
from scorematrix.load import run_mlperf
from scorematrix.results import MlperfResult
from scorematrix.scoring import BackendInfo
from scorematrix.scoring.server import ScoreClient
from tests.load.fake_server import GOOD, REQUESTS, sends, serving


class Scorer:
    """Answers after a millisecond, or raises at every so manieth call."""

    def __init__(self, fails_every: int = 0) -> None:
        self.info = BackendInfo("fake", "v", "none", "cpu", "float32", "none")
        self.compile_events: list = []
        self.n, self._fails_every = 0, fails_every

    def prepare(self, requests) -> None:
        self.prepared = len(requests)

    def score(self, request: ScoreRequest) -> np.ndarray:
        self.n += 1
        threading.Event().wait(0.001)
        if self._fails_every and self.n % self._fails_every == 0:
            raise MemoryError("no room")
        return np.full((len(request.items_ids), len(request.label_ids)), 0.5, dtype=np.float32)


def run(scenario: str, scorer: Scorer, **options) -> MlperfResult:
    pytest.importorskip("mlperf_loadgen", reason="MLPerf LoadGen is an extra")
    settings = {"min_seconds": 0.5, "min_queries": 1, "target_rate": 100.0, "objective_seconds": 0.5} | options
    return run_mlperf(scenario, lambda: scorer, REQUESTS, **settings)


@pytest.mark.parametrize(
    ("scenario", "figure"),
    [
        ("SingleStream", "90.0th percentile latency (ns)"),
        ("Offline", "Samples per second"),
        ("Server", "99.00 percentile latency (ns)"),
    ],
)
def test_each_scenario_has_its_verdict_and_its_figure(scenario: str, figure: str) -> None:
    scorer = Scorer()
    result = run(scenario, scorer, min_seconds=2.0 if scenario == "Server" else 0.5)
    assert result.status == "done" and result.verdict in ("VALID", "INVALID"), result
    assert float(result.figures[figure]) > 0, result.figures
    assert result.n_asked == scorer.n > 10 and result.n_failed == 0 and scorer.prepared == len(REQUESTS)
    assert bool(result.reasons) == (result.verdict == "INVALID")


def test_a_rate_that_is_not_kept_is_invalid() -> None:
    result = run("Server", Scorer(), target_rate=2000.0, objective_seconds=0.002)
    assert result.verdict == "INVALID" and result.reasons


def test_failures_are_counted_though_loadgen_takes_any_answer() -> None:
    scorer = Scorer(fails_every=5)
    result = run("SingleStream", scorer)
    assert result.n_failed == scorer.n // 5 > 0 and result.text == "MemoryError: no room"


def test_a_live_server_is_asked_by_as_many_clients_as_there_are_threads() -> None:
    pytest.importorskip("mlperf_loadgen", reason="MLPerf LoadGen is an extra")
    with serving(sends(GOOD)) as fake:
        result = run_mlperf("Offline", lambda: ScoreClient(fake.url), REQUESTS, min_seconds=0.2, min_queries=1,
                            target_rate=100.0, n_threads=3)  # fmt: skip
    assert (result.status, result.n_failed) == ("done", 0) and result.n_asked == fake.n_requests > 10


def test_without_loadgen_it_says_so_and_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    result = run_mlperf("Server", Scorer, REQUESTS)
    assert (result.status, result.verdict) == ("not_installed", None)
    assert "scorematrix[load]" in result.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scenario": "MultiStream"}, "scenario='MultiStream'.*SingleStream, Offline, Server"),
        ({"min_seconds": 0}, "min_seconds=0 "),
        ({"n_threads": 0}, "n_threads=0 "),
    ],
)
def test_mistakes_are_named(options: dict, words: str) -> None:
    arguments = {"scenario": "Server"} | options
    with pytest.raises(ValueError, match=words):
        run_mlperf(arguments.pop("scenario"), Scorer, REQUESTS, **arguments)
