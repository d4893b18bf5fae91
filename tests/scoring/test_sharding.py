"""What lies where on a mesh, without a device: text to mesh, heads to devices, items to replicas; what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from scorematrix import ScoreRequest, load_backend
from scorematrix.models import load_model
from scorematrix.models.random_weights import RANDOM_SHAPES, random_weights
from scorematrix.models.weights import expected_shapes
from scorematrix.scoring.mesh import Mesh
from scorematrix.scoring.sharding import device_share, repeat_kv_heads, repeated_kv, split_axis
from scorematrix.scoring.shared_prefix import deal_items, lay_out, lay_out_replicas

QWEN = RANDOM_SHAPES["tiny-qwen3"]


@pytest.mark.parametrize(
    ("text", "mesh"),
    [
        ("data=2,model=4", Mesh(2, 4)),
        ("model=4, data=2", Mesh(2, 4)),
        ("data=8", Mesh(8, 1)),
        ("model=2", Mesh(1, 2)),
        (str(Mesh(3, 2)), Mesh(3, 2)),
    ],
)
def test_a_mesh_is_read_and_written(text: str, mesh: Mesh) -> None:
    assert Mesh.parse(text) == mesh and mesh.size == mesh.data * mesh.model


@pytest.mark.parametrize("text", ["", "data=0", "rows=2", "2x4", "data=2,data=2", "data=2;model=4", "data=-1"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"mesh='{text}'.*data=2,model=4"):
        Mesh.parse(text)


@pytest.mark.parametrize(
    ("heads", "kv", "shards", "share_heads", "share_kv"),
    [
        (16, 8, 4, 4, 2),  # kv heads divide
        (8, 2, 4, 2, 1),  # each kv head on two shards
        (8, 1, 8, 1, 1),  # the one on all
        (12, 3, 2, 6, 3),  # six query heads: a group of four and half of the next, in twos
        (9, 3, 3, 3, 1),
        (8, 8, 8, 1, 1),
    ],
)  # fmt: skip
def test_every_query_head_meets_its_own_key_value_head(heads, kv, shards, share_heads, share_kv) -> None:
    config = dataclasses.replace(QWEN, n_heads=heads, n_kv_heads=kv)
    mesh = Mesh(model=shards)
    share, whole = device_share(config, mesh), repeated_kv(config, mesh)
    assert (share.n_heads, share.n_kv_heads, share.ffn_size) == (share_heads, share_kv, config.ffn_size // shards)
    weights = repeat_kv_heads(config, random_weights(config, 1), mesh)
    shapes = {name: array.shape for name, array in weights.named_leaves()}
    assert shapes == expected_shapes(whole)
    original = random_weights(config, 1).layers.k_ldkh
    for head in range(heads):
        shard, own = divmod(head, share_heads)
        found = weights.layers.k_ldkh[:, :, shard * share_kv + own // (share_heads // share_kv)]
        assert np.array_equal(found, original[:, :, head // (heads // kv)])


def test_leaves_are_split_by_heads_and_columns_or_not_at_all() -> None:
    split = {name: split_axis(name) for name in expected_shapes(dataclasses.replace(QWEN, tied_head=False))}
    assert split == {
        "embed_vd": None, "final_norm_d": None, "head_vd": None, "layers.attn_norm_ld": None,
        "layers.mlp_norm_ld": None, "layers.q_norm_lh": None, "layers.k_norm_lh": None, "layers.q_ldnh": 2,
        "layers.k_ldkh": 2, "layers.v_ldkh": 2, "layers.o_lnhd": 1, "layers.gate_ldf": 2, "layers.up_ldf": 2,
        "layers.down_lfd": 1,
    }  # fmt: skip


def test_replicas_share_items_evenly_and_have_one_shape() -> None:
    lengths = [5, 40, 1, 9, 9, 9, 3, 70, 2, 33, 6]
    request = ScoreRequest([7] * 50, [[i + 1] * n for i, n in enumerate(lengths)], [3])
    assert deal_items(request, range(11), 1) == [list(range(11))]
    hands = deal_items(request, range(11), 4)
    assert sorted(i for hand in hands for i in hand) == list(range(11))
    assert sorted(sum(lengths[i] for i in hand) for hand in hands) == [38, 39, 40, 70]
    steps = lay_out_replicas(request, range(11), 4, with_query=True)
    assert len({step.shape for step in steps}) == 1
    assert sorted(np.concatenate([step.request_index for step in steps])) == list(range(11))
    for step in steps:
        for block in step.blocks:  # each scored position is the last token of the item that it stands for
            for slot, item in enumerate(block.request_index):
                end = block.scored_s[slot]
                assert block.token_t[end] == item + 1 and block.position_t[end] == 50 + lengths[item] - 1
    (whole,) = lay_out_replicas(request, range(11), 1, with_query=True)
    assert whole.shape == lay_out(request, range(11), with_query=True).shape


def test_a_replica_without_an_item_is_all_padding() -> None:
    steps = lay_out_replicas(ScoreRequest([7] * 9, [[1, 2]], [3]), range(1), 3, with_query=False)
    assert [len(step.request_index) for step in steps] == [1, 0, 0]
    assert [int(step.blocks[0].item_t.max()) for step in steps] == [0, -1, -1]


REFUSED = {
    "portable": (
        ("jax", "portable", "data=2", {}), "mesh='data=2'.*'portable'.*'jax'.*native"),
    "baseline": (("transformers", "per_item", "data=2", {}), "mesh='data=2'.*'per_item'.*'transformers'"),
    "text": (("jax", "best_native", "data=two", {}), "mesh='data=two'"),
    "too few devices": (
        ("jax", "best_native", "data=64", {}), "64 devices.* 1 .*cpu.*device_count=64"),
    "query heads, jax": (
        ("jax", "best_native", "model=3", {}), "model=3.*n_heads=4.*model=2"),
    "query heads, pytorch": (
        ("pytorch", "best_native", "model=3", {}), "model=3.*n_heads=4.*model=2"),
    "columns": (
        ("pytorch", "best_native", "model=4", {"ffn_size": 90}), "model=4.*ffn_size=90.*model=2"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_field_value_and_remedy(case: str) -> None:
    (backend, view, mesh, changes), words = REFUSED[case]
    model = load_model("random:tiny-qwen3", seed=11)
    model = dataclasses.replace(model, config=dataclasses.replace(model.config, **changes))
    with pytest.raises(ValueError, match=words):
        load_backend(backend, view=view, model=model, device="cpu", mesh=mesh)
