"""Hugging Face transformers in float32, one sequence per item, from its own loader: nothing of ours in between."""

from __future__ import annotations

import functools
from unittest import mock

import gguf
import numpy as np
import torch
import transformers

from scorematrix.models import Model
from scorematrix.models.embedded import fetch_embedded
from scorematrix.scoring.transformers.model import build_model
from scorematrix.workload import ScoreRequest


def hf_smollm2() -> transformers.PreTrainedModel:
    """The embedded GGUF file as transformers itself reads it."""
    path = fetch_embedded()
    # It would open the file twice and list the tensors' names once a tensor.
    once = {name: functools.cache(getattr(gguf, name)) for name in ("GGUFReader", "get_tensor_name_map")}
    with mock.patch.multiple(gguf, **once):
        return transformers.AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32
        ).eval()


def hf_from_tree(model: Model) -> transformers.PreTrainedModel:
    """A model in transformers with our tree's weights; that it maps onto them rightly is proved in tests/models."""
    return build_model(model.config, model.weights)


@torch.inference_mode()
def reference_scores(net: transformers.PreTrainedModel, request: ScoreRequest) -> np.ndarray:
    """Probabilities [items, labels], each from a whole sequence of its own."""
    rows = []
    for item in request.items_ids:
        logits = net(torch.tensor([[*request.query_ids, *item]])).logits[0, -1].float()
        labels = torch.tensor(request.label_ids)
        rows.append(torch.softmax(logits[labels], -1) if request.apply_softmax else torch.softmax(logits, -1)[labels])
    return torch.stack(rows).numpy()
