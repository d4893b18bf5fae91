"""Check that a live server refuses a prompt that is too long for it, instead of truncating it silently."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scorematrix.audit.isolation import SAME
from scorematrix.audit.probes import Probes
from scorematrix.results.audits import Gate
from scorematrix.servers.audit.wire import Reply, Wire
from scorematrix.workload.request import ScoreRequest, body_of

NAME = "too long"


def too_long_gate(wire: Wire, probes: Probes, max_positions: int) -> Gate:
    """Send a query that fills all positions, with items behind it; fail with what happened unless it is refused.

    No reference is needed. If the end is cut, different items get the same scores. If the beginning is cut, queries
    that differ only there do.
    """
    _, stated = wire.stated_limits().length or ("", None)
    limit = min(max_positions, stated or max_positions)
    whose = f"its stated limit of {limit}" if stated == limit else f"the model's {limit} positions"
    query = (probes.base.query_ids * (limit // len(probes.base.query_ids) + 1))[:limit]
    request = replace(probes.base, query_ids=query, items_ids=probes.base.items_ids[3:5])
    n_tokens = limit + max(map(len, request.items_ids))
    call = wire.dialect.calls(request)[0]
    reply = wire.post(body_of(call, wire.served_model))
    if reply.status is not None and 400 <= reply.status < 500:
        detail = f"{n_tokens} tokens against {whose}: refused ({reply.status}): {reply.words}"
        return Gate(name=NAME, status="passed", detail=detail)
    what = _became(wire, request, reply)
    detail = f"{n_tokens} tokens against {whose} are not refused: {what}"
    return Gate(name=NAME, status="failed", detail=detail, request=probes.shown(request))


def _became(wire: Wire, request: ScoreRequest, reply: Reply) -> str:
    if (rows := wire.read_rows(reply)) is None or len(rows) != len(request.items_ids):
        return f"{reply.fault or f'status {reply.status}'}: {reply.words}"
    usage = (reply.content or {}).get("usage")
    n_prompt = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    counted = f"; its usage reports {n_prompt} tokens" if isinstance(n_prompt, int) else ""
    if np.abs(rows[0] - rows[1]).max() < SAME:
        return f"truncated silently, from the end: different items get the same score{counted}"
    n_over = min(map(len, request.items_ids))  # at least this many tokens go if the beginning is cut
    turned = tuple(reversed(request.query_ids[: 2 * n_over]))[:n_over]
    other = replace(request, query_ids=turned + request.query_ids[n_over:])
    again = wire.read_rows(wire.post(body_of(wire.dialect.calls(other)[0], wire.served_model)))
    if again is not None and again.shape == rows.shape and np.abs(again - rows).max() < SAME:
        return f"truncated silently, from the front: different queries get the same scores{counted}"
    return f"scored with status 200, beyond the model's positions{counted}"
