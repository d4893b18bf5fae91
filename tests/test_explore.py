"""The explore notebook's face: layouts counted, items and samples of recorded runs, and what is not there said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scorematrix.explore import Recorded, attention_layout, open_recorded
from scorematrix.explore.own import _pieces
from scorematrix.workload import ScoreRequest
from tests.factory import changed, make_params, write_run

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
    assert "one sequence an item (baseline) 3 33 0" in text  # 3 x 9 and 2 + 1 + 3
    assert "packed (portable) 1 16 1 256" in text  # 15 tokens, padded to 16
    assert "one sequence an item (baseline) 500 1,010,000 0 2,040,200,000" in text  # 500 x 2,020, and squared
    assert "shared prefix (best_native) 1 12,000 0 24,480,000" in text  # 2,000^2, and 10,000 x (2,000 + 16 + 32)
    assert "No item sees another" in text and html.count("<svg") == 1 and "<a>" not in html
    assert _pieces(Letters(), request, [2, 0]) == [*"is $1 <a>", *"def", *"ab"]


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    write_run(tmp_path / "runs" / "one", params=LOCAL)
    return open_recorded("one", tmp_path)


def test_items_come_least_alike_first_and_can_be_searched(recorded: Recorded) -> None:
    found = recorded.items()
    assert list(found.columns) == [
        "request", "item", "text", "gold", "jax portable", "pytorch portable", "reference", "apart",
    ]  # fmt: skip
    assert len(found) == 12 and found["apart"].is_monotonic_decreasing
    assert set(recorded.items("ITEM <3>")["text"]) == {"item <3>"} and recorded.items("nothing").empty


def test_samples_hold_every_call(recorded: Recorded) -> None:
    text = plain(recorded.samples("jax.portable.cpu", 4).html)
    cell = recorded.store.round("jax.portable.cpu.r02").cell(4)
    assert " ".join(f"{ns:,}" for ns in cell.call_ns[0][0]) in text
    assert "jax.portable.cpu, chunk 8" in recorded.samples().html, "the chosen chunk of the first side"
    for bad, words in (({"side": "tpu"}, "side='tpu'.*jax.portable.cpu"), ({"chunk_size": 5}, "chunk_size=5.*4, 8")):
        with pytest.raises(ValueError, match=words):
            recorded.samples(**bad)


def test_change_since_another_run(recorded: Recorded, tmp_path: Path) -> None:
    assert "No other run" in recorded.change_since().html
    write_run(tmp_path / "runs" / "two", params=LOCAL, edit=lambda r: changed(r, run_id="two"))
    assert "NO CHANGE" in recorded.change_since().html and "two (OLD)" in recorded.change_since().html
    write_run(tmp_path / "runs" / "other", params=make_params(seed=9))
    assert "REFUSED: params_sha256 differs" in recorded.change_since("other").html


def test_without_a_run_everything_says_so(tmp_path: Path) -> None:
    none = open_recorded("", tmp_path)
    for shown in (none.cells(), none.items(), none.samples(), none.change_since()):
        assert "No run is recorded yet" in shown.html


def test_a_run_without_rounds_says_so(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "bare", params=LOCAL, keep=lambda p: False)
    bare = open_recorded("", tmp_path)
    assert bare.cells().empty
    assert "No score" in bare.items().html and "No cell is measured" in bare.samples().html
