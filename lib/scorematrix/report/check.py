"""Check that the summaries in a run folder are those of its rounds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from bs4 import BeautifulSoup
from pydantic import BaseModel

from scorematrix.compare import Comparison, compare_run
from scorematrix.report.banner import cards
from scorematrix.report.markdown import render_markdown
from scorematrix.results import RunStore, read_document

JUDGED = ("verdict", "sentence", "effect", "margin", "n_rounds")
"""Fields of a contrast that must be as computed. Others may differ in wording between versions."""
BELOW_VERDICTS = "## Throughput"


def check_summaries(store: RunStore) -> None:
    """Compare the verdicts in comparison.json and in the reports with those that the rounds give.

    Raises:
        ValueError: naming the file and the first difference: the file was edited, or is older than the rounds.
    """
    path, folder = store.folder / "comparison.json", store.folder
    reports = [p for kind in ("md", "html") for p in sorted(folder.glob(f"report*.{kind}"))]
    if not path.is_file() and not reports:
        return
    found = compare_run(store.manifest(), store.workload(), store.readiness(), store.rounds())
    differences = [f"comparison.json: {d}" for d in _of_json(read_document(path, Comparison), found)][:1]
    for report in reports:
        written = report.read_text("utf-8", errors="replace")
        if report.suffix == ".html":
            parts = (_cards(written), _cards(cards(found).html))
        else:
            parts = (_top(written), _top(render_markdown(found)))
        for its, ours in zip_longest(*parts):
            if its != ours:
                differences.append(f"{report.name}: {_short(its)}, computed: {_short(ours)}")
                break
    if differences:
        raise ValueError(
            f"{folder.name}/{differences[0]}; it was edited, or is older than the rounds: rerun `scorematrix report "
            f"{folder.name}`"
        )


def _of_json(written: Comparison, found: Comparison) -> Iterator[str]:
    pairs: list[tuple[str, Any, Any]] = [
        (name, getattr(written, name), getattr(found, name))
        for name in ("params_sha256", "rounds_done", "rounds_planned", "partial", "notices")
    ]
    pairs.append(("number of contrasts", len(written.contrasts), len(found.contrasts)))
    for i, (its, ours) in enumerate(zip(written.contrasts, found.contrasts, strict=False)):
        pairs += [(f"contrasts[{i}].{name}", getattr(its, name), getattr(ours, name)) for name in JUDGED]
    for name, its, ours in pairs:
        if not _alike(its, ours):
            yield f"{name}={_short(its)}, computed: {_short(ours)}"


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9) or (math.isnan(one) and math.isnan(other))
    if isinstance(one, BaseModel) and isinstance(other, BaseModel):
        one, other = one.model_dump(), other.model_dump()
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    return one == other


def _top(markdown: str) -> list[str]:
    return markdown.partition(BELOW_VERDICTS)[0].splitlines()


def _cards(html: str) -> list[str]:
    articles = BeautifulSoup(html, "html.parser").select("article.card")
    return [" ".join(article.get_text(" ").split()) for article in articles]


def _short(value: object) -> str:
    shown = str(value)
    return repr(shown if len(shown) <= 100 else f"{shown[:100]}...")
