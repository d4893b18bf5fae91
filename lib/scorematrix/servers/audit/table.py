"""The contract's table: how a live server answers malformed, unusual and dangerous requests.

The wanted statuses follow SGLang's newest contract of `/v1/score`. Where live versions differ soundly, each is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scorematrix.audit.probes import Probes, shown_body
from scorematrix.results.audits import ContractRow, Gate
from scorematrix.servers.audit.wire import Reply, Wire
from scorematrix.workload.request import ScoreRequest, body_of

Body = dict[str, Any]
ROW_SECONDS = 20.0
NOT_SENT = "not sent: it kills some servers; --risky sends it"


@dataclass(frozen=True)
class Case:
    """One request of the table.

    Attributes:
        body: makes the body from a sound one and the vocabulary size.
        wanted: statuses that agree with the contract.
        n_rows: rows of scores that a 200 must have; None: a 200 answers nonsense.
        mild: an unwanted answer differs but is no fault, because the request can be read in two ways.
        risky: such requests have crashed servers.
    """

    name: str
    body: Callable[[Body, int], Body | bytes]
    wanted: tuple[int, ...] = (400,)
    n_rows: int | None = None
    mild: bool = False
    risky: bool = False


def _with(**fields: Any) -> Callable[[Body, int], Body]:
    return lambda body, vocab: body | fields


def _without(name: str) -> Callable[[Body, int], Body]:
    return lambda body, vocab: {key: value for key, value in body.items() if key != name}


CASES = (
    Case("a sound request", _with(), (200,), n_rows=2),
    Case("a single item", lambda body, vocab: body | {"items": body["items"][:1]}, (200,), n_rows=1),
    Case("item_first, one item", lambda b, v: b | {"items": b["items"][:1], "item_first": True}, (200,), 1, mild=True),
    Case("item_first, two items", _with(item_first=True), (200,), n_rows=2, mild=True),
    Case("model missing", _without("model"), (200, 400), n_rows=2),
    Case("unknown model", _with(model="no-such-model"), (200, 400, 404), n_rows=2),
    Case("unknown field", _with(no_such_field=1), (200, 400), n_rows=2),
    Case("items []", _with(items=[]), (200, 400), n_rows=0),
    Case("items missing", _without("items")),
    Case("query missing", _without("query")),
    Case("query a number", _with(query=3)),
    Case("query a text, items ids", _with(query="a text"), mild=True),
    Case("label ids missing", _without("label_token_ids")),
    Case("label ids []", _with(label_token_ids=[])),
    Case("a label twice", lambda body, vocab: body | {"label_token_ids": body["label_token_ids"][:1] * 2}),
    Case("a label that is no integer", _with(label_token_ids=[1.5])),
    Case("label id beyond the vocabulary", lambda body, vocab: body | {"label_token_ids": [vocab]}),
    Case("query id beyond the vocabulary", lambda body, vocab: body | {"query": [*body["query"], vocab]}),
    Case("item id beyond the vocabulary", lambda body, vocab: body | {"items": [*body["items"], [vocab]]}),
    Case("bad JSON", lambda body, vocab: b'{"query": [1'),
    Case("a JSON list", lambda body, vocab: b"[1]"),
    Case("query and items empty", _with(query=[], items=[[]]), risky=True),
    Case("item id -1", lambda body, vocab: body | {"items": [*body["items"], [-1]]}, risky=True),
    Case("query id -1", lambda body, vocab: body | {"query": [*body["query"], -1]}, risky=True),
    Case("label id -1", _with(label_token_ids=[-1]), risky=True),
)


def contract_rows(wire: Wire, probes: Probes, rounding: float, *, risky: bool) -> Iterator[ContractRow]:
    """Send the table, risky requests last and only if `risky`.

    After each, check that the server still works as it did, unless it was inconsistent before the first.
    """
    base = probes.base
    small = ScoreRequest(base.query_ids[:6], base.items_ids[:2], base.label_ids[:2])
    limit = min(wire.timeout_seconds, ROW_SECONDS)
    healthy = wire.rows(small, limit)
    if not isinstance(healthy, np.ndarray) or _after(wire, small, healthy, rounding, limit):
        healthy = None
    unanswered, gone = 0, ""
    for case in CASES:
        body = case.body(body_of(small, wire.served_model), probes.vocab_size)
        blank = ContractRow(
            case=case.name,
            wanted=" or ".join(map(str, case.wanted)),
            answer=gone or NOT_SENT,
            state="not_sent",
            request=body.decode() if isinstance(body, bytes) else shown_body(body),
        )
        if gone or (case.risky and not risky):
            yield blank
            continue
        reply = wire.post(body, limit)
        state, fault = _judged(case, reply, wire)
        if not wire.outlives(reply):
            state, fault, gone = "fault", "server_died", f"not sent: the server died of {case.name}"
        elif healthy is not None and (after := _after(wire, small, healthy, rounding, limit)):
            state, fault = "fault", after
            if after == "server_died":
                gone = f"not sent: the server has answered no sound request since {case.name}"
        unanswered = unanswered + 1 if reply.fault == "timeout" else 0
        if unanswered == 2 and not gone:
            gone = "not sent: two consecutive requests got no answer"
        yield blank.model_copy(update=dict(status=reply.status, answer=_told(reply, wire), state=state, fault=fault))


def contract_gate(rows: list[ContractRow]) -> Gate:
    """Check that no bad request is scored, gets a 5xx, or kills the server."""
    faults, differ = ([row for row in rows if row.state == state] for state in ("fault", "differs"))
    n_sent = sum(row.state != "not_sent" for row in rows)
    parts = [f"{row.case} ({row.fault})" for row in faults] or [f"{n_sent} requests, no faults"]
    if differ:
        parts.append("harmless deviations: " + ", ".join(f"{row.case} ({row.status})" for row in differ))
    return Gate(
        name="bad requests",
        status="failed" if faults else "passed",
        detail="; ".join(parts),
        request=faults[0].request if faults else None,
    )


def _judged(case: Case, reply: Reply, wire: Wire) -> tuple[str, str | None]:
    if reply.fault:
        return "fault", reply.fault
    assert reply.status is not None  # a reply without a status has a fault
    if reply.status >= 500:
        return "fault", "server_error"
    if reply.status == 200:
        rows = wire.read_rows(reply)
        if case.n_rows is None:
            return ("differs", None) if case.mild else ("fault", "answered_nonsense")
        if rows is None or len(rows) != case.n_rows or not np.isfinite(rows).all():
            return "fault", "bad_shape" if reply.content is not None else "bad_json"
    elif case.wanted == (200,) and not case.mild:
        return "fault", "refused_sound_request"
    return ("agrees" if reply.status in case.wanted else "differs"), None


def _told(reply: Reply, wire: Wire) -> str:
    """Return its scores if there are any, else its message."""
    if (rows := wire.read_rows(reply)) is None:
        return reply.words
    return f"{len(rows)} rows: {', '.join('[' + ', '.join(f'{p:.4g}' for p in row) + ']' for row in rows[:3])}"


def _after(wire: Wire, small: ScoreRequest, healthy: np.ndarray, rounding: float, limit: float) -> str | None:
    """Return what happened to a server that answered soundly before; None: nothing changed."""
    alone = replace(small, items_ids=small.items_ids[:1])
    answer = wire.rows(alone, limit)
    if isinstance(answer, Reply):  # try again: a single item may be its trouble, or a connection that it cut
        return "server_died" if isinstance(wire.rows(small, limit), Reply) else None
    return "wrong_afterwards" if np.abs(answer - healthy[:1]).max() > rounding else None
