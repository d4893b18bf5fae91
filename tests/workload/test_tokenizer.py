"""Our tokenizer against transformers' reading of the same file, and labels that are one token or refused."""

from __future__ import annotations

import pytest
import transformers

from scorematrix.models import Model
from scorematrix.models.embedded import fetch_embedded
from scorematrix.workload import score_request_from_text
from scorematrix.workload.tokenizer import TextTokenizer

TEXTS = [
    "Hello world", " leading space", "two  spaces   three", "line\nbreak\r\n\ttab", "don't can't we'll I'M",
    "naïve café Ærøskøbing 北京 🙂 русский", "def f(x):\n    return x ** 2  # code", "", "!!!??...;;", "a-b_c/d\\e",
]  # fmt: skip
NUMBERS = ["12345", "3.14159", "in 2026, 7 of 1,000", "x1y22z333"]


@pytest.fixture(scope="module")
def theirs(smollm2: Model):
    path = fetch_embedded()
    return transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)


@pytest.mark.parametrize("text", TEXTS)
def test_agrees_with_transformers(smollm2: Model, theirs, text: str) -> None:
    assert smollm2.tokenizer.encode(text) == theirs(text, add_special_tokens=False).input_ids


@pytest.mark.parametrize("text", [*TEXTS, *NUMBERS])
def test_decodes_to_the_same_text(smollm2: Model, text: str) -> None:
    assert smollm2.tokenizer.decode(smollm2.tokenizer.encode(text)) == text


@pytest.mark.parametrize("text", NUMBERS)
def test_every_digit_is_a_token_of_its_own(smollm2: Model, text: str) -> None:
    """As SmolLM2's own tokenizer.json has it (pre = smollm): Digits(individual_digits=True), then GPT-2's pattern."""
    pieces = [smollm2.tokenizer.decode([i]) for i in smollm2.tokenizer.encode(text)]
    assert [p.strip() for p in pieces if any(c.isdigit() for c in p)] == [c for c in text if c.isdigit()]


def test_survives_json(smollm2: Model) -> None:
    again = TextTokenizer.from_json(smollm2.tokenizer.to_json())
    assert again.sha256 == smollm2.tokenizer.sha256 and again.vocab_size == 49152
    assert {0, 1, 2} <= again.special_ids


@pytest.mark.parametrize(("label", "ids"), [(" yes", 9805), (" no", 787)])
def test_label_is_one_token(smollm2: Model, label: str, ids: int) -> None:
    assert smollm2.tokenizer.label_id(label) == ids


@pytest.mark.parametrize(
    ("query", "items", "labels", "words"),
    [("", ["a"], [" yes"], "query=''"), ("q", [""], [" yes"], "item=''"),
     ("q", [], [" yes"], "items_ids"),
     ("q", ["a"], [], "label_ids"), ("q", ["a"], [" yes", " yes"], "once"),
     ("q", ["a"], ["yes or no"], "label='yes or no'.* 3 ")],
)  # fmt: skip
def test_bad_text_is_refused(smollm2: Model, query: str, items: list, labels: list, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        score_request_from_text(smollm2.tokenizer, query, items, labels)
