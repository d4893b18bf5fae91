"""Live servers in a run: who is compared with whom, and what a careful reader is told."""

from __future__ import annotations

import pytest

from scorematrix.compare import Comparison, compare_run
from scorematrix.report.banner import title
from scorematrix.results import SIDES, BackendRecord, ReferenceSample, Round
from tests.factory import changed, make_params, make_run

URL = {"server": {"url": "http://127.0.0.1:9"}}


def served(*names: str) -> list[dict]:
    return [{"backend": name, "views": ["server"], **URL} for name in names]


def with_settings(**settings: str | int) -> object:
    """Every round of a server as if its record had these settings."""

    def edit(round_: Round) -> Round:
        if round_.view != "server":
            return round_
        record = BackendRecord(framework="jax", device="cpu", dtype="float32", precision="float32", settings=settings)
        return changed(round_, record=record)

    return edit


LAUNCHED = {"launch": "serve {port}"}
ENGINES = [{"backend": name, "views": ["portable"]} for name in ("jax", "pytorch")]


@pytest.mark.parametrize(
    ("backends", "pairs"),
    [
        (ENGINES, [("portable", "jax", "pytorch")]),
        (served("sglang-jax", "sglang"), [("server", "sglang-jax", "sglang")]),
        (
            [*ENGINES, *served("sglang-jax", "vllm", "sglang")],
            [("portable", "jax", "pytorch"), ("server", "sglang-jax", "vllm"), ("server", "sglang-jax", "sglang")],
        ),
        ([*ENGINES, *served("vllm")], [("portable", "jax", "pytorch")]),
    ],
)
def test_who_is_compared_with_whom(backends: list[dict], pairs: list[tuple[str, str, str]]) -> None:
    params = make_params(backends=backends, comparisons=[{"jax": "cpu", "pytorch": "cpu"}])
    contrasts = compare_run(*make_run(params)).contrasts
    assert [(c.view, c.first.backend, c.second.backend) for c in contrasts] == pairs


@pytest.mark.parametrize(
    ("place", "edit", "words"),
    [
        ({"url": "http://127.0.0.1:9"}, lambda r: r, "sglang on cpu; sglang-jax on cpu"),
        (LAUNCHED, with_settings(reuse_prefix=1), "queries"),
        (
            LAUNCHED,
            lambda r: changed(r, events=["the server died"]) if r.view == "server" and r.index == 2 else r,
            "2 rounds",
        ),
    ],
)
def test_what_a_reader_is_warned_of(place: dict, edit: object, words: str) -> None:
    def warnings(where: dict, edit: object) -> list[str]:
        backends = [*ENGINES, *(b | {"server": where} for b in served("sglang-jax", "sglang"))]
        params = make_params(backends=backends, comparisons=[{"jax": "cpu", "pytorch": "cpu"}])
        return compare_run(*make_run(params, edit=edit)).warnings

    assert not any(words in warning for warning in warnings(LAUNCHED, lambda r: r))
    told = warnings(place, edit)
    assert any(words in warning for warning in told), told


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ({}, ("sglang-jax server", "vllm server")),
        ({"software": "vllm 0.32.0"}, ("vllm 0.32.0 (as sglang-jax)", "vllm 0.32.0 (as vllm)")),
        ({"started_by": "{python} -m scorematrix serve --backend jax --port {port}"}, ("scorematrix serve (jax)",) * 2),
    ],
)
def test_a_server_is_called_what_it_is_and_never_by_a_framework(settings: dict, labels: tuple[str, str]) -> None:
    params = make_params(backends=served("sglang-jax", "vllm"), comparisons=[{"jax": "cpu", "pytorch": "cpu"}])
    (contrast,) = compare_run(*make_run(params, edit=with_settings(**settings))).contrasts
    assert contrast.kind == "server" and contrast.sentence.startswith("Server comparison")
    for side, label in zip((contrast.first, contrast.second), labels, strict=True):
        assert side.label.startswith(label) and contrast.sentence.count(side.label) == 1
    assert "JAX" not in contrast.sentence and "PyTorch" not in contrast.sentence
    assert contrast.model_copy(update={"verdict": "jax"}).outcome == "winner"


def test_names_of_servers_appear_where_they_tell_something_and_not_twice() -> None:
    def judged(*names: str) -> Comparison:
        backends = [*ENGINES, *served(*names)]
        params = make_params(backends=backends, comparisons=[{"jax": "cpu", "pytorch": "cpu"}])
        return compare_run(*make_run(params, edit=with_settings(software="sglang 0.5.9")))

    comparison = judged("sglang-jax", "sglang")
    names = [side.name for side in comparison.sides if side.view == "server"]
    assert sorted(names) == ["sglang 0.5.9", "sglang-jax: sglang 0.5.9"]
    assert [c.name for c in comparison.contrasts] == ["CPU", "CPU"]
    assert title(comparison).startswith("JAX, PyTorch and live servers on")
    of_two = judged("sglang-jax", "sglang", "vllm").contrasts
    assert len({(c.name, c.view) for c in of_two}) == len(of_two) == 3
    for c in of_two[1:]:
        assert c.kind == "server" and c.sentence.count(c.first.label) <= 2, c.sentence


def test_where_no_peak_could_be_measured_no_gate_needs_it_and_the_reader_is_told() -> None:
    """A server at an address of another machine."""

    def judged(place: dict, edit: object) -> tuple[list[str], list[str]]:
        backends = [choice | {"server": place} for choice in served("sglang-jax", "sglang")]
        params = make_params(backends=backends, comparisons=[{"jax": "cpu", "pytorch": "cpu"}])
        comparison = compare_run(*make_run(params, edit=edit))
        (contrast,) = comparison.contrasts
        return [g.name for g in contrast.gates if "physics" in g.name], [w for w in comparison.warnings if "peak" in w]

    def unmeasured(r: Round) -> Round:
        return changed(r, ceilings=None)

    both = ["physics sglang-jax", "physics sglang"]
    assert judged(URL["server"], lambda r: r) == judged(LAUNCHED, unmeasured) == (both, [])
    names, warnings = judged(URL["server"], unmeasured)
    assert names == [] and len(warnings) == 1 and "sglang on cpu" in warnings[0]


def test_only_beside_a_server_that_keeps_queries_may_rounds_draw_no_tokens() -> None:
    names = ("sglang-jax", "sglang", "vllm")
    backends = [{"backend": name, "views": ["server"], "server": LAUNCHED} for name in names]
    params = make_params(backends=backends, comparisons=[{"jax": "cpu", "pytorch": "cpu"}])

    def doubts(keeping: str) -> list[str]:
        def edit(r: Round) -> Round:
            if r.role == "reference":
                known = {"request": 0, "items": [0], "scores": [[0.5, 0.5]]}
                return changed(r, samples=[ReferenceSample(index=i, seed=i, **known) for i in range(9)])
            settings = {"reuse_prefix": 1} if r.backend == keeping else {}
            framework = SIDES.get(r.backend, r.record.framework)
            record = r.record.model_copy(update={"settings": settings, "framework": framework})
            return changed(r, record=record, group=f"g{r.index}", alone_because=None)

        contrasts = compare_run(*make_run(params, edit=edit)).contrasts
        (own,) = (c for c in contrasts if (c.first.backend, c.second.backend) == ("sglang-jax", "sglang"))
        return [g.detail for g in own.gates if g.name == "records" and "drawn tokens" in g.detail]

    assert doubts("nobody") and not doubts("vllm")
