"""Limits that a server states: they are read, and a request beyond them is refused before it is sent."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scorematrix.matrix.workloads import build_workload
from scorematrix.models import load_model
from scorematrix.scoring.place import ServerPlace
from scorematrix.servers.client import LiveBackend
from scorematrix.servers.client.about import read_limits
from scorematrix.servers.load import measure_load
from scorematrix.workload import ScoreRequest
from tests.conftest import environment_of_users
from tests.factory import make_params, make_workload, write_run
from tests.servers.serve.posting import posting

REQUEST = ScoreRequest(tuple(range(1, 7)), ((1, 2, 3), (4,), (5, 6)), (7, 8))
"""6 query tokens, items of up to 3 tokens: 12 tokens, 9 of query and longest item, 6 scores."""


@pytest.mark.parametrize(
    ("replies", "values"),
    [
        ([{}], {}),
        ([{"data": [{"id": "m", "max_model_len": 4096}]}], {"max_model_len": 4096}),
        ([{"context_length": None, "max_req_input_len": 1019}], {"max_req_input_len": 1019}),
        ([{"server_args": {"context_length": 2048}}, {"context_length": 1024}], {"context_length": 1024}),
        (
            [{"max_positions": 512, "limits": {"max_items": 10, "max_seconds": 300, "max_call_tokens": 99}}],
            {"max_positions": 512, "max_items": 10, "max_call_tokens": 99},
        ),
        ([{"max_model_len": True, "limits": [1], "data": "x", "context_length": -1}], {}),
    ],
)
def test_limits_are_read_from_what_servers_report(replies: list[dict], values: dict[str, int]) -> None:
    assert read_limits(*replies).values == values


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"data": [{"max_model_len": 8}]}, ("max_model_len=8", " 9 tokens", "shorter")),
        ({"context_length": 8, "max_req_input_len": 7}, ("max_req_input_len=7", " 9 tokens", "shorter")),
        ({"limits": {"max_call_tokens": 8}}, ("max_call_tokens=8", " 9 tokens", "shorter")),
        ({"limits": {"max_items": 2}}, ("max_items=2", " 3 items", "fewer items")),
        ({"limits": {"max_scores": 5}}, ("max_scores=5", " 6 scores", "fewer items")),
        ({"limits": {"max_tokens": 11}}, ("max_tokens=11", " 12 tokens", "fewer items")),
    ],
)
def test_an_exceeded_limit_is_named_with_value_and_remedy(about: dict, words: tuple[str, ...]) -> None:
    told = read_limits(about).exceeded(REQUEST)
    assert told is not None and "\n" not in told and all(word in told for word in words), told
    larger = json.loads(json.dumps(about), parse_int=lambda n: int(n) + 2)
    assert read_limits(larger).exceeded(REQUEST) is None


@pytest.fixture
def server() -> Iterator[tuple[str, list[bytes]]]:
    """A server that takes two items per request, and the bodies that it got."""
    bodies: list[bytes] = []

    def answer(body: bytes, handler: object) -> tuple[int, bytes]:
        bodies.append(body)
        rows = [[0.25, 0.75] for _ in json.loads(body)["items"]]
        return 200, json.dumps({"scores": rows}).encode()

    with posting(answer, {"limits": {"max_items": 2}}) as url:
        yield url, bodies


def test_a_live_backend_refuses_at_preparation(server: tuple[str, list[bytes]], tmp_path: Path) -> None:
    url, bodies = server
    options = dict(model=load_model("random:tiny-llama"), dtype="float32", device="cpu", log=tmp_path / "s.log")
    live = LiveBackend("sglang", ServerPlace(url=url), **options)
    live.prepare(REQUEST.chunks(2))
    with pytest.raises(ValueError, match="max_items=2"):
        live.prepare([REQUEST])
    live.close()
    assert bodies == []


def test_a_load_beyond_a_limit_is_not_sent(server: tuple[str, list[bytes]]) -> None:
    url, bodies = server
    with pytest.raises(ValueError, match="max_items=2"):
        measure_load(url, make_workload(), self_check=False)
    assert bodies == []


ROUND = """
import sys
from scorematrix.matrix.round import run_round
from scorematrix.results import PlannedRound
planned = PlannedRound(index=1, role="confirm", backend="sglang", view="server", target="cpu", position=0)
print(run_round(sys.argv[1], planned).model_dump_json())
"""


def test_a_round_measures_the_chunk_sizes_that_the_server_takes(
    server: tuple[str, list[bytes]], tmp_path: Path
) -> None:
    url, bodies = server
    backends = [
        {"backend": name, "views": ["server"], "server": {"url": url, "audit": False}} for name in ("sglang", "vllm")
    ]
    params = make_params(backends=backends, comparisons=[{"sglang": "cpu", "vllm": "cpu"}], chunk_sizes=[2, 8])
    store = write_run(tmp_path / "run", params=params, keep=lambda _: False)
    command = [sys.executable, "-c", ROUND, str(store.folder)]
    done = subprocess.run(command, env=environment_of_users(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    cells = {cell["chunk_size"]: cell for cell in json.loads(done.stdout.splitlines()[-1])["cells"]}
    assert cells[2]["status"] == "ok" and "max_items=2" in cells[8]["error"] and "8 items" in cells[8]["error"]
    assert {len(json.loads(body)["items"]) for body in bodies} == {2}


def test_a_workload_beyond_the_models_positions_is_refused() -> None:
    shape = {"kind": "canonical", "query_tokens": 500, "n_items": 4, "item_tokens": 20, "label_ids": [1, 2]}
    with pytest.raises(ValueError, match="520 tokens.*max_positions=512"):
        build_workload(make_params(workload=shape))
    assert build_workload(make_params(workload=shape | {"query_tokens": 492})).requests
