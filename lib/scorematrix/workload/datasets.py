"""Text data sets: JSON lines with a query, items, labels and, where known, gold answers."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from scorematrix.text_files import parse_json, read_text
from scorematrix.workload.tokenizer import TextTokenizer
from scorematrix.workload.workload import Workload, WorkloadRequest

SHIPPED = ("yes_no",)


class TextExample(BaseModel):
    """One line of a data set file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    query: str = Field(min_length=1)
    labels: list[str] = Field(min_length=1)
    items: list[str] = Field(min_length=1)
    gold: list[str] | None = None


def read_examples(name_or_path: str) -> list[TextExample]:
    """Return the examples of a shipped data set or of a JSON lines file.

    Raises:
        ValueError: naming the file, the line and what is wrong with it.
    """
    if name_or_path in SHIPPED:
        text = resources.files("scorematrix.workload").joinpath(f"data/{name_or_path}.jsonl").read_text("utf-8")
    elif os.path.lexists(name_or_path):
        text = read_text(Path(name_or_path), "workload.dataset")
    else:
        raise ValueError(
            f"workload.dataset={name_or_path!r} is neither a shipped data set ({', '.join(SHIPPED)}) "
            "nor a file; give the path of a JSON lines file"
        )
    examples = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            examples.append(TextExample.model_validate(parse_json(line, "it")))
        except ValueError as error:  # pydantic's too
            raise ValueError(f"{name_or_path}, line {number}: {error}") from None
    if not examples:
        raise ValueError(f"{name_or_path} has no example; write one JSON object per line")
    return examples


def text_workload(
    name_or_path: str,
    tokenizer: TextTokenizer,
    *,
    n_queries: int | None = None,
    items_per_query: int | None = None,
    apply_softmax: bool = True,
) -> Workload:
    """Tokenize a data set, query and items separately, without special tokens.

    Args:
        n_queries: take only the first so many queries; None: all.
        items_per_query: take only the first so many items of each query; None: all.

    Raises:
        ValueError: naming the example and the label or gold answer that does not fit.
    """
    requests, examples = [], read_examples(name_or_path)
    if n_queries is not None and n_queries > len(examples):
        raise ValueError(f"workload.n_queries={n_queries}, but {name_or_path} has {len(examples)}; give at most that")
    for example in examples[:n_queries]:
        if items_per_query is not None and items_per_query > len(example.items):
            raise ValueError(
                f"workload.items_per_query={items_per_query}, but {name_or_path}, {example.id} has "
                f"{len(example.items)} items; give at most that"
            )
        items = example.items[:items_per_query]
        gold = None
        if example.gold is not None:
            if len(example.gold) != len(example.items):
                raise ValueError(
                    f"{name_or_path}, {example.id}: {len(example.gold)} gold answers for "
                    f"{len(example.items)} items; give one per item"
                )
            if strange := [g for g in example.gold if g not in example.labels]:
                raise ValueError(f"{name_or_path}, {example.id}: gold answer {strange[0]!r} is not one of the labels")
            gold = [example.labels.index(g) for g in example.gold[:items_per_query]]
        requests.append(
            WorkloadRequest(
                id=example.id,
                query_ids=tokenizer.encode(example.query),
                items_ids=[tokenizer.encode(item) for item in items],
                label_ids=[tokenizer.label_id(label) for label in example.labels],
                query_text=example.query,
                item_texts=items,
                label_texts=example.labels,
                gold=gold,
            )
        )
    return Workload(
        name=Path(name_or_path).stem,
        origin=f"text data set {Path(name_or_path).stem}, {len(requests)} queries, "
        f"{sum(len(r.items_ids) for r in requests)} items",
        apply_softmax=apply_softmax,
        tokenizer_sha256=tokenizer.sha256,
        requests=requests,
    )
