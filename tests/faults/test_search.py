"""Lies that depend on sizes, ids, equal items, history or age: the search finds each, and the fixed probes none."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from scorematrix import load_backend
from scorematrix.audit import audit_backend, search, shrink
from scorematrix.audit.shrink import shrunk, shrunk_history
from scorematrix.models import Model, load_model
from scorematrix.scoring import Backend, Scores
from scorematrix.servers.audit import audit_server
from scorematrix.workload import ScoreRequest
from tests.faults.fake_servers import Sound, fake_server, honest
from tests.faults.lies import LyingBackend, cached_by, with_items
from tests.faults.search_lies import HISTORY, SEARCH_LIES

pytestmark = pytest.mark.slow  # minutes together: begins early

SECONDS = 60.0
"""Of processor time, see `cpu_clock`. A lie that is found ends its search."""
N_AUDITS, AUDIT_SECONDS = int(os.environ.get("SCOREMATRIX_AUDITS", "1")), 4.0
"""Seeds of each sound form."""


def rounded(scores: Scores) -> Scores:
    """To bfloat16."""
    bits = scores.astype(np.float32).view(np.uint32)
    return ((bits + 0x8000) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def only_first(n: int) -> Callable:
    def answer(sound: Backend, request: ScoreRequest) -> Scores:
        scores = sound.score(request)
        scores[n:] = scores[:1]
        return scores

    return answer


def swapped_beyond(n: int) -> Callable:
    def answer(sound: Backend, request: ScoreRequest) -> Scores:
        scores = sound.score(request)
        scores[n:] = scores[n:][::-1].copy()
        return scores

    return answer


def middle_dropped(n: int) -> Callable:
    return lambda s, r: s.score(with_items(r, lambda i: i if len(i) <= n else i[: n // 2] + i[-(n // 2) :]))


def rounded_items(n: int) -> Callable:
    def answer(sound: Backend, request: ScoreRequest) -> Scores:
        scores = sound.score(request)
        long = [len(ids) > n for ids in request.items_ids]
        scores[long] = rounded(scores[long])
        return scores

    return answer


def query_cut(n: int) -> Callable:
    return lambda s, r: s.score(dataclasses.replace(r, query_ids=r.query_ids[-n:]))


def reversed_calls(n: int) -> Callable:
    return lambda s, r: s.score(r) if len(r.items_ids) <= n else s.score(r)[::-1].copy()


def labels_lost(n: int) -> Callable:
    def answer(sound: Backend, request: ScoreRequest) -> Scores:
        scores = sound.score(request)
        scores[:, n:] = 1e-9
        return scores

    return answer


def twins_mixed(sound: Backend, request: ScoreRequest) -> Scores:
    scores, seen = sound.score(request), Counter()
    for i, ids in enumerate(request.items_ids):
        if seen[ids]:
            scores[i] = scores[0]
        seen[ids] += 1
    return scores


def wrong_after(n: int) -> Callable:
    calls = Counter()

    def answer(sound: Backend, request: ScoreRequest) -> Scores:
        calls["n"] += 1
        scores = sound.score(request)
        return scores if calls["n"] <= n else scores[:, ::-1].copy()

    return answer


def special_dropped(sound: Backend, request: ScoreRequest) -> Scores:
    return sound.score(with_items(request, lambda i: tuple(t for t in i if t != 0) or i))


LIES: dict[str, Callable[[], Callable]] = {
    "only the first 32 items are right": lambda: only_first(32),
    "only the first 100 items are right": lambda: only_first(100),
    "wrong order beyond 16 items": lambda: swapped_beyond(16),
    "wrong order beyond 64 items": lambda: swapped_beyond(64),
    "the middle of items over 64 tokens is dropped": lambda: middle_dropped(64),
    "the middle of items over 128 tokens is dropped": lambda: middle_dropped(128),
    "items over 32 tokens are rounded to bfloat16": lambda: rounded_items(32),
    "items over 16 tokens are rounded to bfloat16": lambda: rounded_items(16),
    "queries are cut to 256 tokens": lambda: query_cut(256),
    "queries are cut to 100 tokens": lambda: query_cut(100),
    "reversed in calls over 100": lambda: reversed_calls(100),
    "labels beyond the eighth are lost": lambda: labels_lost(8),
    "labels beyond the 32nd are lost": lambda: labels_lost(32),
    "equal items are mixed up": lambda: twins_mixed,
    "wrong after 200 calls": lambda: wrong_after(200),
    "cached by query and first item": lambda: cached_by(lambda r: (r.query_ids, r.items_ids[0], r.label_ids)),
    "token 0 of items is dropped": lambda: special_dropped,
}


@pytest.fixture(autouse=True)
def cpu_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search's time is this process's processor time, so that other tests beside it take none of it."""
    clock = SimpleNamespace(monotonic=time.process_time)
    for module in (search, shrink):
        monkeypatch.setattr(module, "time", clock)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """PyTorch's other threads would spin the processor time away while they wait for a core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("random:tiny-llama", seed=11)


@pytest.fixture(scope="module")
def sound(model: Model) -> Backend:
    return load_backend("pytorch", view="portable", model=model, device="cpu", dtype="float32")


@pytest.mark.parametrize("name", LIES)
def test_the_search_finds_what_the_probes_do_not(name: str, model: Model, sound: Backend) -> None:
    probed = audit_backend(LyingBackend(sound, LIES[name]()), model, seconds=0)
    assert probed.verdict == "sound", "the fixed probes find it: it belongs into tests/faults/lies.py"
    report = audit_backend(LyingBackend(sound, LIES[name]()), model, seconds=SECONDS)
    (failed,) = (gate for gate in report.gates if gate.status == "failed")
    assert report.verdict == "unsound" and failed.name == "search" and failed.request


def test_a_fault_is_shrunk_to_the_smallest_request() -> None:
    request = ScoreRequest(range(50), [range(9)] * 70, range(5))

    def fault_of(request: ScoreRequest) -> str | None:
        wrong = len(request.items_ids) > 32 and len(request.query_ids) >= 3
        return f"{len(request.items_ids)} items" if wrong else None

    smallest, fault = shrunk(request, "70 items", fault_of, time.process_time() + 60)
    assert (len(smallest.items_ids), len(smallest.query_ids), len(smallest.label_ids)) == (33, 3, 1)
    assert {len(ids) for ids in smallest.items_ids} == {1} and fault == "33 items"


def test_a_cache_of_whole_requests_is_found_by_its_speed(model: Model, sound: Backend) -> None:
    lie = cached_by(lambda r: (r.query_ids, r.items_ids, r.label_ids))
    report = audit_backend(LyingBackend(sound, lie), model, seconds=2.0)
    assert "no cache" in {gate.name for gate in report.gates if gate.status == "failed"}


N_FORMS = int(os.environ.get("SCOREMATRIX_FORMS", "1"))
"""Of each lie; 9: all."""
FORMS = [
    pytest.param(name, form, id=f"{name}, form {form}")
    for name, forms in SEARCH_LIES.items()
    for form in range(min(len(forms), N_FORMS))
]


def requests_of(shown: str) -> list[ScoreRequest]:
    """Read the bodies that a gate shows. None is shortened."""
    bodies = map(json.loads, shown.splitlines())
    return [ScoreRequest(b["query"], b["items"], b["label_token_ids"], b["apply_softmax"]) for b in bodies]


@pytest.mark.chaos
@pytest.mark.parametrize(("name", "form"), FORMS)
def test_each_form_is_found_and_shown_by_requests(name: str, form: int, model: Model, sound: Backend) -> None:
    make = SEARCH_LIES[name][form]
    assert audit_backend(LyingBackend(sound, make()), model, seconds=0).verdict == "sound"
    report = audit_backend(LyingBackend(sound, make()), model, seconds=SECONDS)
    (failed,) = (gate for gate in report.gates if gate.status == "failed")
    assert failed.name == "search" and "items of up to" in failed.detail, failed
    requests = requests_of(failed.request)
    if name in HISTORY:
        return
    lying = LyingBackend(sound, make())  # a fresh one
    assert len(requests) == 1 and np.abs(lying.score(requests[0]) - sound.score(requests[0])).max() > 5e-5, failed


SERVED = {
    "a prefix cache by the first tokens": 0,
    "padding leaks": 1,
    "special ids are stripped": 0,
    "a token budget": 0,
    "the previous answer every nth call": 1,
    "the mode of the request before": 0,
}


@pytest.mark.chaos
@pytest.mark.parametrize("name", SERVED)
def test_a_lie_behind_a_live_server_is_found(name: str, model: Model, sound: Backend) -> None:
    lying = Sound(LyingBackend(sound, SEARCH_LIES[name][SERVED[name]]()), model)
    with fake_server(lying, honest) as url:
        report = audit_server(url, model, device="cpu", seconds=SECONDS)
    failed = next(gate for gate in report.gates if gate.status == "failed")
    assert failed.name in ("search", "concurrency") and failed.request, failed


def test_a_server_is_sent_nothing_beyond_its_stated_limits(model: Model, sound: Backend) -> None:
    limits, bodies = {"max_items": 20, "max_scores": 40, "max_tokens": 200}, []

    def keeping(sound: Sound, body: bytes, handler: object) -> tuple[int, bytes]:
        code, answer = sound(body)
        if code == 200:
            bodies.append(json.loads(body))
            if longest(bodies[-1]) > 150:
                return 400, b'{"message": "150 tokens are allowed"}'
        return code, answer

    about = {"limits": limits, "data": [{"max_model_len": 150}]}
    with fake_server(Sound(sound, model), keeping, about) as url:
        report = audit_server(url, model, device="cpu", seconds=4.0)
    assert report.verdict == "sound", report.gates
    gate = next(gate for gate in report.gates if gate.name == "search")
    assert gate.found["calls"] >= 10 and "refused" not in gate.detail
    assert sum(longest(body) > 150 for body in bodies) == 1, "the gate `too long` sends one that must be refused"
    assert max(len(body["items"]) for body in bodies) <= 20


def longest(body: dict) -> int:
    """Tokens of query and longest item."""
    return len(body["query"]) + max(map(len, body["items"]), default=0)


def test_a_history_is_shrunk_to_the_calls_that_matter() -> None:
    calls = [ScoreRequest((n,), ((1,),), (1,)) for n in range(40)]

    def fault_after(requests: list[ScoreRequest]) -> str | None:
        return "wrong" if {calls[33], calls[36]} <= set(requests) else None

    assert shrunk_history(calls, fault_after, time.process_time() + 60) == ([calls[33], calls[36]], "wrong")
    assert shrunk_history(calls, lambda _: None, time.process_time() + 60) == ([], None)


SOUND_FORMS = [
    ("jax", "portable"),
    ("jax", "best_native"),
    ("pytorch", "portable"),
    ("pytorch", "best_native"),
    ("transformers", "per_item"),
    ("transformers", "expanded_cache"),
    ("transformers", "packed"),
    ("numpy", "own"),
]


@pytest.fixture(scope="module", params=SOUND_FORMS, ids=lambda form: "-".join(form))
def sound_form(request: pytest.FixtureRequest, model: Model) -> Backend:
    name, view = request.param
    return load_backend(name, view=view, model=model, device="cpu", dtype="float32")


@pytest.mark.parametrize("seed", range(N_AUDITS))
def test_a_sound_backend_raises_no_alarm(seed: int, model: Model, sound_form: Backend) -> None:
    report = audit_backend(sound_form, model, seed=seed, seconds=AUDIT_SECONDS)
    assert report.verdict == "sound", [gate for gate in report.gates if gate.status != "passed"]
    gate = next(gate for gate in report.gates if gate.name == "search")
    assert gate.found["calls"] >= 2  # JAX compiles per shape, PyTorch traces
