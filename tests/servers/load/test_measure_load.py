"""A whole measurement: the search for saturation, the command against a real server, and what it says of a dead one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from scorematrix.results import read_document
from scorematrix.servers.load import Plan, find_saturation, generator_ceiling, measure_load
from scorematrix.servers.load_records import LoadPoint, LoadRecord, LoadWindow
from scorematrix.servers.load_rows import load_words
from scorematrix.workload import canonical_workload
from tests.conftest import call_cli, real_time, run_cli
from tests.servers.load.fake_server import http, sends, serving
from tests.servers.serve.process import Server

SMALL = ["--vocab-size", "256", "--query-tokens", "20", "--items", "10", "--item-tokens", "3"]
WORKLOAD = canonical_workload(vocab_size=256, query_tokens=20, n_items=10, item_tokens=3, label_ids=[3, 4], n_queries=4)


@pytest.fixture(scope="module")
def noop() -> Iterator[Server]:
    server = Server("--backend", "noop")
    yield server
    code, errors = server.stop()
    assert (code, errors) == (0, "")


@pytest.mark.parametrize(
    ("capacity", "start", "objective", "low", "high"),
    [
        (37.0, 10.0, None, 34.0, 37.0),
        (37.0, 100.0, None, 34.0, 37.0),
        (37.0, 37.0, None, 34.0, 37.0),
        (1000.0, 100.0, 0.05, 80.0, 100.0),  # it keeps up with more, but not within 50 ms
        (0.001, 100.0, None, 0.0, 0.0),
    ],
)
def test_the_search_ends_at_the_highest_rate_that_is_kept(
    capacity: float, start: float, objective: float | None, low: float, high: float
) -> None:
    def ask(rate: float) -> LoadPoint:
        """A server that answers so many a second, the later the more there are to answer."""
        due, done = int(rate * 10), int(min(rate, capacity) * 10)
        window = LoadWindow(offered=due, answered=due, finished=done, seconds=10, latency_ns=[int(rate * 5e5)] * due)
        return LoadPoint(kind="open", rate=rate, windows=[window], generator_cpu_share=0)

    points = find_saturation(ask, start, objective)
    kept = [point.rate for point in points if point.shortfall(objective) is None]
    assert low <= max(kept, default=0.0) <= high * 1.06
    assert len(points) <= 10
    if kept:
        assert min(point.rate for point in points if point.shortfall(objective)) <= max(kept) * 1.09


@real_time
def test_the_generator_can_do_far_more_than_any_model() -> None:
    ceiling = generator_ceiling(WORKLOAD.score_requests(), concurrency=4, seconds=0.5)
    assert ceiling.requests_per_second > 500


def test_a_record_holds_all_that_was_done() -> None:
    said = []
    with serving(sends(http(200, {"scores": [[0.5, 0.5]] * 10}))) as fake:
        record = measure_load(fake.url, WORKLOAD, concurrency=[1, 2], rates=[30.0], plan=Plan(0.1, 0.6), seed=3,
                              objective_seconds=0.5, on_point=said.append)  # fmt: skip
    assert record.points == said and [point.kind for point in said] == ["closed", "closed", "open"]
    assert sum(p.totals.offered + p.warmup.offered for p in record.points) == fake.n_requests
    assert (record.workload.sha256, record.workload.n_items, record.seed) == (WORKLOAD.sha256, 10, 3)
    assert record.ceiling.requests_per_second > 100
    assert LoadRecord.model_validate_json(record.model_dump_json()) == record
    edited = json.loads(record.model_dump_json()) | {"seed": 4}
    with pytest.raises(ValueError, match="sha256="):
        LoadRecord.model_validate(edited)


@real_time
def test_the_command_measures_a_real_server(noop: Server, tmp_path: Path) -> None:
    kept = tmp_path / "load.json"
    done = run_cli("load", noop.url, *SMALL, "--concurrency", "1,4", "--rates", "50", "--seconds", "1.8", "--warmup",
                   "0.3", "--objective-ms", "200", "--out", str(kept))  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    record = read_document(kept, LoadRecord)
    assert [(p.kind, p.concurrency, p.rate) for p in record.points] == [
        ("closed", 1, None), ("closed", 4, None), ("open", None, 50.0)]  # fmt: skip
    assert all(point.totals.answered == point.totals.offered > 50 for point in record.points)
    assert record.points[1].requests_per_second > 200, "nothing waits for a timer between two requests"
    assert record.environment is not None and record.environment.n_cores >= 1
    *_, last = done.stdout.strip().splitlines()
    assert last.startswith("sglang: ") and all(word in last for word in ("50", "200 ms"))
    assert "p95" in done.stdout and all(word in done.stdout for word in map(load_words, record.points))


def test_bad_requests_among_good_ones_cost_the_good_ones_nothing(noop: Server) -> None:
    done = call_cli("load", noop.url, *SMALL, "--concurrency", "8", "--rates", "none", "--seconds", "1",
                    "--warmup", "0", "--bad-every", "10", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (point,) = LoadRecord.model_validate_json(done.stdout).points
    totals = point.totals
    assert totals.answered + totals.rejected == totals.offered and point.surplus == 0
    assert totals.rejected == pytest.approx(totals.offered / 10, abs=8)


def test_nobody_there_is_exit_code_4_and_one_sentence() -> None:
    done = call_cli("load", "http://127.0.0.1:9", *SMALL, "--concurrency", "1", "--seconds", "0.3", "--warmup", "0")
    assert done.returncode == 4, done.stderr
    *_, last = done.stdout.strip().splitlines()
    assert last.startswith("sglang: ") and "connection" in last


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--concurrency", "1,x"], "--concurrency='1,x'"),
        (["--concurrency", "1,0"], "--concurrency='1,0'"),
        (["--rates", "5,-1"], "--rates='5,-1'"),
        (["--concurrency", "none"], "--rates='auto'"),
        (["--concurrency", "none", "--rates", "none"], "concurrency=[]"),
        (["--model", "random:tiny-qwen3", "--vocab-size", "300"], "--vocab-size"),
        (["--server", "triton"], "server='triton'"),
        (["--objective-ms", "0"], "objective_seconds=0.0"),
        (["--seconds", "0"], "seconds=0.0"),
        (["--vocab-size", "256", "--labels", "3,999"], "999"),
    ],
)
def test_mistakes_end_with_2_and_one_line(options: list[str], words: str) -> None:
    done = call_cli("load", "http://127.0.0.1:9", *options)
    assert done.returncode == 2 and words in done.stderr, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.chaos
@real_time
def test_saturated_with_bad_requests_mixed_in_it_neither_breaks_nor_grows(noop: Server) -> None:
    """More callers than may wait in line, a tenth of what they send is bad: all is answered, refused or rejected."""
    process = psutil.Process(noop.process.pid)
    plan = Plan(2.0, 10.0, 5)

    def saturate() -> LoadPoint:
        return measure_load(noop.url, WORKLOAD, concurrency=[100], rates=[], plan=plan, bad_every=10,
                            self_check=False).points[0]  # fmt: skip

    saturate()
    before = process.memory_info().rss
    point = saturate()
    totals = point.totals
    assert totals.failed == {} and point.surplus == 0
    assert totals.offered == totals.answered + totals.refused + totals.rejected
    assert totals.answered > 1000 and totals.rejected > 100
    assert process.memory_info().rss <= before * 1.05
    assert noop.process.poll() is None


@real_time
def test_too_many_at_once_are_refused_and_come_back_later() -> None:
    server = Server("--backend", "noop", "--max-waiting", "1")
    try:
        point = measure_load(server.url, WORKLOAD, concurrency=[32], rates=[], plan=Plan(0.0, 1.0, 1),
                             self_check=False).points[0]  # fmt: skip
    finally:
        assert server.stop() == (0, "")
    totals = point.totals
    assert totals.refused > 0 and totals.answered > 0 and totals.failed == {}
