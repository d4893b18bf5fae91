"""The explore notebook's face: layouts counted, items and samples of recorded runs, and what is not there said."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from scorematrix.analysis import Run, open_run
from scorematrix.explore import attention_layout, cell_calls, change_since, item_table
from scorematrix.explore.own import _pieces
from scorematrix.workload import ScoreRequest
from tests.factory import make_params, write_run

LOCAL = make_params(comparisons=[{"jax": "cpu", "pytorch": "cpu"}])


class Letters:
    """A tokenizer of one character a token."""

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))


def plain(markup: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", markup).split())


def test_layout_counts_tokens_of_each() -> None:
    request = ScoreRequest([ord(c) for c in "is $1 <a>"], [[ord(c) for c in word] for word in ("ab", "c", "def")], [1])
    html = attention_layout(Letters(), request).html
    text = plain(html)
    assert "one sequence per item (baseline) 3 33 0" in text  # 3 x 9 and 2 + 1 + 3
    assert "packed (portable) 1 16 1 256" in text  # 15 tokens, padded to 16
    assert "one sequence per item (baseline) 500 1,010,000 0 2,040,200,000" in text  # 500 x 2,020, and squared
    assert "shared prefix (best_native) 1 12,000 0 24,480,000" in text  # 2,000^2, and 10,000 x (2,000 + 16 + 32)
    assert "No item sees another" in text and html.count("<svg") == 1 and "<a>" not in html
    assert _pieces(Letters(), request, [2, 0]) == [*"is $1 <a>", *"def", *"ab"]


@pytest.fixture
def recorded(tmp_path: Path) -> Run:
    write_run(tmp_path / "runs" / "one", params=LOCAL)
    return open_run("one", tmp_path)


def test_items_come_least_alike_first_and_can_be_searched(recorded: Run) -> None:
    found = item_table(recorded)
    assert list(found.columns[:4]) == ["request", "item", "text", "gold"]
    assert set(found.columns[4:]) == {"jax portable", "pytorch portable", "reference", "spread"}
    assert len(found) == 12 and found["spread"].is_monotonic_decreasing
    assert set(item_table(recorded, "ITEM <3>")["text"]) == {"item <3>"} and item_table(recorded, "nothing").empty


def test_a_cell_has_every_call(recorded: Run) -> None:
    found = cell_calls(recorded, "jax portable", 4)
    cell = recorded.store.round("jax.portable.cpu.r02").cell(4)
    own = found.query("round == 'jax.portable.cpu.r02' and kind == 'timed'")
    assert own["seconds"].tolist() == [ns / 1e9 for p in cell.call_ns for q in p for ns in q]
    first = cell_calls(recorded)
    assert set(first["chunk_size"]) == {8} and first["side"].nunique() == 1, "the chosen chunk of the first side"
    for bad, words in (({"side": "tpu"}, "side='tpu'.*jax portable"), ({"chunk_size": 5}, "chunk_size=5.*4, 8")):
        with pytest.raises(ValueError, match=words):
            cell_calls(recorded, **bad)


def test_change_since_another_run(recorded: Run, tmp_path: Path) -> None:
    assert "No other run" in change_since(recorded).data
    write_run(tmp_path / "runs" / "two", params=LOCAL, run_id="two")
    assert "NO CHANGE" in change_since(recorded).data and "two (OLD)" in change_since(recorded).data
    write_run(tmp_path / "runs" / "other", params=make_params(seed=9))
    assert "REFUSED: params_sha256 differs" in change_since(recorded, "other").data


def test_a_run_without_rounds_is_empty_everywhere(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "bare", params=LOCAL, keep=lambda p: False)
    bare = open_run("", tmp_path)
    assert item_table(bare).empty and cell_calls(bare).empty and bare.cells()["items_per_second"].isna().all()


def test_menus_lead_to_every_cell(recorded: Run) -> None:
    pytest.importorskip("ipywidgets", reason="ipywidgets is not installed (pip install .)")
    from scorematrix.explore.widgets import browse_runs

    runs, sides, sizes, _ = browse_runs(recorded).children
    assert runs.value == str(recorded.store.folder) and "quick" in dict(runs.options)
    assert set(sides.options) == {"jax portable", "pytorch portable"} and tuple(sizes.options) == (4, 8)
    assert sizes.value == 8
    runs.value = dict(runs.options)["quick"]
    assert any("best_native" in side for side in sides.options)


def test_the_form_scores_what_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ipywidgets", reason="ipywidgets is not installed (pip install .)")
    from scorematrix.explore import widgets

    asked = []
    monkeypatch.setattr(widgets, "load_model", lambda name: SimpleNamespace(name=name, tokenizer=None))
    monkeypatch.setattr(widgets, "score_request_from_text", lambda _, *texts: texts)
    monkeypatch.setattr(widgets, "compare_backends", lambda model, request, *rest: asked.append((model.name, request)))
    form = widgets.score_form("m", "q", ["a", "b"], [" yes", " no"], "portable", {})
    query, items, *_, button, _ = form.children
    query.value, items.value = "other", "c\n---\nd\n---\ne"
    button.click()
    assert asked == [("m", ("other", ["c", "d", "e"], [" yes", " no"]))] and not button.disabled


def test_bad_input_is_said_in_the_form(capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("ipywidgets", reason="ipywidgets is not installed (pip install .)")
    from scorematrix.explore import widgets

    form = widgets.score_form("no-such-model", "q", ["a"], [" yes", " no"], "portable", {})
    form.children[-2].click()
    assert "Error: " in (said := capsys.readouterr().out) and "no-such-model" in said
    assert not form.children[-2].disabled
