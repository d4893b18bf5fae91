"""Cases of `test_sharded_jax`, by name, in a process that has eight devices from its start: a line of JSON each."""

from __future__ import annotations

import dataclasses
import functools
import json
import sys

import numpy as np

from scorematrix import ScoreRequest
from scorematrix.models import Model
from scorematrix.models.config import DecoderConfig
from scorematrix.models.random_weights import RANDOM_SHAPES, random_weights
from scorematrix.scoring.jax.best_native import BestNativeBackend
from scorematrix.scoring.jax.sharded import ShardedBackend
from scorematrix.scoring.mesh import Mesh

N_RANDOM = 4
RAGGED = [5, 40, 1, 9, 9, 9, 3, 70, 2, 33, 6]

SHAPES: dict[str, DecoderConfig] = {
    # fewer kv heads than shards, by 2 and by 4
    "qwen3 8q 2kv": dataclasses.replace(RANDOM_SHAPES["tiny-qwen3"], n_heads=8, n_kv_heads=2),
    "qwen3 8q 1kv": dataclasses.replace(RANDOM_SHAPES["tiny-qwen3"], n_heads=8, n_kv_heads=1),
    # a shard's six query heads are one group of four and half of another
    "llama 12q 3kv": dataclasses.replace(RANDOM_SHAPES["tiny-llama"], n_heads=12, n_kv_heads=3),
    "llama 8q 8kv": dataclasses.replace(RANDOM_SHAPES["tiny-llama"], n_heads=8, n_kv_heads=8),
    "qwen2 4q 2kv": RANDOM_SHAPES["tiny-qwen2"],
}

CASES: dict[str, tuple[str, str, list[int], dict[str, int]]] = {
    # name: (shape, mesh, item lengths, options)
    "2 replicas": ("qwen3 8q 2kv", "data=2", RAGGED, {}),
    "2 shards": ("qwen3 8q 2kv", "model=2", RAGGED, {}),
    "2 shards, biases": ("qwen2 4q 2kv", "model=2", RAGGED, {}),
    "2 shards, uneven groups": ("llama 12q 3kv", "model=2", RAGGED, {}),
    "4 shards, kv repeated": ("qwen3 8q 2kv", "model=4", RAGGED, {}),
    "4 shards, one kv head": ("qwen3 8q 1kv", "model=4", RAGGED, {}),
    "4 replicas, one item": ("qwen2 4q 2kv", "data=4", [7], {}),
    "2 by 2, in steps": ("llama 12q 3kv", "data=2,model=2", RAGGED, {"step_tokens": 60}),
    "8 replicas": ("llama 12q 3kv", "data=8", RAGGED, {}),
    "8 shards": ("llama 8q 8kv", "model=8", RAGGED, {}),
    "8 shards, kv repeated": ("qwen3 8q 2kv", "model=8", RAGGED, {}),
    "2 by 4": ("qwen3 8q 2kv", "data=2,model=4", RAGGED, {}),
    "4 by 2, query kept": ("qwen3 8q 2kv", "data=4,model=2", RAGGED, {"step_tokens": 40, "reuse_prefix": 1}),
}


def random_cases(n: int, seed: int) -> dict[str, tuple[DecoderConfig, Mesh, list[int]]]:
    """Small shapes and meshes that go together, drawn."""
    rng, found = np.random.default_rng(seed), {}
    while len(found) < n:
        kv, group = int(rng.integers(1, 5)), int(rng.integers(1, 7))
        mesh = Mesh(int(rng.choice([1, 2, 4])), int(rng.choice([2, 4, 8])))
        if mesh.size > 8 or (kv * group) % mesh.model:
            continue
        architecture = str(rng.choice(["llama", "qwen2", "qwen3"]))
        config = dataclasses.replace(
            RANDOM_SHAPES[f"tiny-{architecture}"], n_heads=kv * group, n_kv_heads=kv, n_layers=2,
            ffn_size=8 * int(rng.integers(1, 9)), head_dim=2 * int(rng.integers(4, 17)),
        )  # fmt: skip
        lengths = rng.integers(1, 45, int(rng.integers(1, 20))).tolist()
        found[f"random {architecture} {kv * group}q {kv}kv over {mesh}, {len(lengths)} items"] = config, mesh, lengths
    return found


def made_up(config: DecoderConfig) -> Model:
    """A model of this shape."""
    return Model("made up", "seed 3", config, None, random_weights(config, 3))


@functools.cache
def on_one_device(
    config: DecoderConfig, lengths: tuple[int, ...], apply_softmax: bool
) -> tuple[ScoreRequest, np.ndarray]:
    """A request over the labels or over the vocabulary, with the scores of the engine without a mesh."""
    one, rng = BestNativeBackend(made_up(config), device="cpu", dtype="float32"), np.random.default_rng(5)
    query, items = rng.integers(0, 256, 50).tolist(), [rng.integers(0, 256, n).tolist() for n in lengths]
    request = ScoreRequest(query, items, [3, 200], apply_softmax)
    return request, one.score(request)


def largest_difference(config: DecoderConfig, mesh: Mesh, lengths: list[int], options: dict[str, int]) -> list[float]:
    """From one device's scores; a second call is asked where queries stay.

    Over the labels, and over the vocabulary on meshes of the model axis alone: the head is on every device as it is.
    """
    many = ShardedBackend(made_up(config), mesh=mesh, device="cpu", dtype="float32", **options)
    found = []
    for apply_softmax in (True, False) if mesh.data == 1 else (True,):
        request, expected = on_one_device(config, tuple(lengths), apply_softmax)
        many.prepare([request])
        n_programs = len(many.compile_events)
        calls = [many.score(request) for _ in range(1 + options.get("reuse_prefix", 0))]
        assert len(many.compile_events) == n_programs, "prepare made every program"
        assert expected.std() > 1e-4, "scores that are all alike would prove nothing"
        # Probabilities over the vocabulary are small; their own size counts.
        found.append(max(float(np.abs(call / expected - 1).max()) * float(expected.max()) for call in calls))
    weights = many._weights.layers
    assert weights.q_ldnh.addressable_shards[0].data.shape[2] * mesh.model == config.n_heads
    assert weights.down_lfd.addressable_shards[0].data.shape[1] * mesh.model == config.ffn_size
    assert len({shard.device for shard in weights.q_ldnh.addressable_shards}) == mesh.size
    assert many.info.settings["mesh"] == str(mesh)
    (program, *_) = many._programs.values()
    assert ("all-reduce" in program.as_text()) == (mesh.model > 1), "the model axis sums, the data axis never speaks"
    return found


def main() -> None:
    cases = {name: (SHAPES[shape], Mesh.parse(mesh), *rest) for name, (shape, mesh, *rest) in CASES.items()}
    cases |= {name: (*case, {}) for name, case in random_cases(N_RANDOM, seed=8).items()}
    for name in sys.argv[1:]:
        print(json.dumps([name, largest_difference(*cases[name])]), flush=True)


if __name__ == "__main__":
    main()
