"""Run MLPerf LoadGen as a second opinion, with its scenarios, clock and verdict, on any backend.

LoadGen (C++) does not check responses. A failed request must be answered too, or LoadGen waits forever. So this module
counts failures in addition to LoadGen's figures.
"""

from __future__ import annotations

import importlib
import queue
import re
import tempfile
import threading
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from scorematrix.results.load_records import MlperfResult
from scorematrix.scoring import Backend, checked_scores
from scorematrix.workload import ScoreRequest

Scenario = Literal["SingleStream", "Offline", "Server"]
SCENARIOS: tuple[Scenario, ...] = ("SingleStream", "Offline", "Server")
MISSING = (
    "MLPerf LoadGen is not installed here, so there is no second opinion; "
    "install it with `pip install 'scorematrix[load]'`"
)
FIGURE = re.compile(r"^([A-Za-z0-9().% /_-]+?) *: (.+)$")
RESULT = re.compile(r"^Result is *: (VALID|INVALID)", re.MULTILINE)


def run_mlperf(
    scenario: Scenario,
    load_scorer: Callable[[], Backend],
    requests: Sequence[ScoreRequest],
    *,
    min_seconds: float = 60.0,
    min_queries: int = 100,
    target_rate: float = 1.0,
    objective_seconds: float = 1.0,
    n_threads: int = 1,
) -> MlperfResult:
    """Run one scenario of MLPerf LoadGen in performance mode.

    Args:
        load_scorer: creates the scorer of each thread: a new `ScoreClient`, or `lambda: backend` for a backend in this
            process, which is not thread-safe and needs `n_threads=1`.
        min_seconds: MLPerf's rules require at least 60; shorter runs are for a quick look.
        target_rate: queries per second: arrivals in the Server scenario, expected throughput in Offline.
        objective_seconds: latency limit of 99 % of the queries in the Server scenario.

    Returns:
        The verdict and the figures as LoadGen prints them; status `not_installed` without LoadGen.

    Raises:
        ValueError: naming the argument, its value and the remedy.
    """
    if scenario not in SCENARIOS:
        raise ValueError(f"scenario={scenario!r} is unknown; known: {', '.join(SCENARIOS)}")
    settings = {
        "min_seconds": min_seconds, "min_queries": min_queries, "target_rate": target_rate,
        "objective_seconds": objective_seconds, "n_threads": n_threads,
    }  # fmt: skip
    for name, value in settings.items():
        if not value > 0:
            raise ValueError(f"{name}={value} must be above 0")
    if not requests:
        raise ValueError("requests=[] is empty; LoadGen needs at least one request to send")
    try:
        loadgen = importlib.import_module("mlperf_loadgen")
    except ImportError:
        return MlperfResult(scenario=scenario, status="not_installed", settings=settings, text=MISSING)
    scorers = _Scorers(loadgen, requests)
    try:
        scorers.start(load_scorer, n_threads)
        summary = _run(loadgen, scorers, _test_settings(loadgen, scenario, settings), len(requests))
    finally:
        scorers.stop()
    result = RESULT.search(summary)
    verdict: Literal["VALID", "INVALID"] | None = None
    if result:
        verdict = "VALID" if result.group(1) == "VALID" else "INVALID"
    return MlperfResult(
        scenario=scenario,
        status="done" if result else "failed",
        verdict=verdict,
        reasons=_reasons(summary) if verdict == "INVALID" else [],
        n_asked=scorers.n_asked,
        n_failed=scorers.n_failed,
        figures=_figures(summary),
        settings=settings,
        text=scorers.first_fault or (None if result else "LoadGen wrote no result"),
    )


class _Scorers:
    """Threads that score the samples LoadGen issues, with one scorer per thread."""

    def __init__(self, loadgen: Any, requests: Sequence[ScoreRequest]) -> None:
        self._loadgen, self._requests = loadgen, list(requests)
        self._issued: queue.SimpleQueue = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.n_asked = self.n_failed = 0
        self.first_fault: str | None = None

    def start(self, load_scorer: Callable[[], Backend], n_threads: int) -> None:
        for scorer in [load_scorer() for _ in range(n_threads)]:
            scorer.prepare(self._requests)
            thread = threading.Thread(target=self._work, args=(scorer,), name="mlperf", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        for _ in self._threads:
            self._issued.put(None)
        for thread in self._threads:
            thread.join()

    def issue(self, samples: Sequence[Any]) -> None:
        """Queue samples. LoadGen calls this, so it must neither block nor raise."""
        for sample in samples:
            self._issued.put((sample.id, sample.index))

    def _work(self, scorer: Backend) -> None:
        while (issued := self._issued.get()) is not None:
            sample_id, index = issued
            data, fault = array("f", [0.0]), None
            try:
                request = self._requests[index]
                data = array("f", checked_scores(scorer.score(request), request).ravel().tolist())
            except Exception as error:  # any exception: LoadGen waits for an answer
                fault = f"{type(error).__name__}: {error}"
            with self._lock:
                self.n_asked += 1
                if fault is not None:
                    self.n_failed += 1
                    self.first_fault = self.first_fault or fault
            address, length = data.buffer_info()
            response = self._loadgen.QuerySampleResponse(sample_id, address, length * data.itemsize)
            self._loadgen.QuerySamplesComplete([response])


def _test_settings(loadgen: Any, scenario: Scenario, settings: dict[str, float]) -> Any:
    made = loadgen.TestSettings()
    made.scenario = getattr(loadgen.TestScenario, scenario)
    made.mode = loadgen.TestMode.PerformanceOnly
    made.min_duration_ms = max(1, int(settings["min_seconds"] * 1000))
    made.min_query_count = int(settings["min_queries"])
    made.offline_expected_qps = made.server_target_qps = float(settings["target_rate"])
    made.server_target_latency_ns = int(settings["objective_seconds"] * 1e9)
    return made


def _run(loadgen: Any, scorers: _Scorers, settings: Any, n_requests: int) -> str:
    """Run a test and return LoadGen's summary. Its log files are deleted."""
    with tempfile.TemporaryDirectory() as folder:
        log = loadgen.LogSettings()
        log.log_output.outdir, log.enable_trace = folder, False
        sut = loadgen.ConstructSUT(scorers.issue, lambda: None)
        qsl = loadgen.ConstructQSL(n_requests, n_requests, lambda indices: None, lambda indices: None)
        try:
            # A path that does not exist means a run without an audit configuration.
            loadgen.StartTestWithLogSettings(sut, qsl, settings, log, str(Path(folder) / "none.config"))
        finally:
            loadgen.DestroyQSL(qsl)
            loadgen.DestroySUT(sut)
        summary = Path(folder) / "mlperf_log_summary.txt"
        return summary.read_text() if summary.is_file() else ""


def _figures(summary: str) -> dict[str, str]:
    """Parse the summary's lines into names and values, up to its list of settings."""
    lines = summary.split("Test Parameters Used")[0].splitlines()
    matches = (FIGURE.match(line.strip()) for line in lines)
    return {match.group(1): match.group(2).strip() for match in matches if match}


def _reasons(summary: str) -> list[str]:
    """Return LoadGen's reasons for an INVALID result: the failed conditions, then its recommendations."""
    figures = _figures(summary)
    failed = [f"{name}: NO" for name in figures if name.endswith("satisfied") and figures[name].upper() == "NO"]
    advice = re.findall(r"^ \* (.+)$", summary, re.MULTILINE)
    return failed + advice
