"""One rank of the sharded best-native view in PyTorch: its share of the weights, its items, its part of each call.

Every process but the first is a `python -m scorematrix.scoring.pytorch.rank`. It reads the first one's orders from its
standard input, where it waits without a limit. It ends when that is closed, however the first process ended.
Collectives have a time-out.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pickle
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from scorematrix.models.catalogue import Model, ModelDescription
from scorematrix.models.config import DecoderConfig
from scorematrix.models.weights import DecoderWeights, LayerWeights, expected_shapes
from scorematrix.scoring.contract import AskedDType, DType, Scores
from scorematrix.scoring.mesh import Mesh
from scorematrix.scoring.pytorch import device as devices
from scorematrix.scoring.pytorch.best_native import BestNativeBackend
from scorematrix.scoring.pytorch.compiled import compiled
from scorematrix.scoring.pytorch.model import feed_forward, linear
from scorematrix.scoring.pytorch.products import matmul
from scorematrix.scoring.sharding import device_share, repeat_kv_heads, repeated_kv, split_axis
from scorematrix.scoring.shared_prefix import deal_items
from scorematrix.workload.request import ScoreRequest

READY = b"ready\n"


@dataclass(frozen=True)
class RankConfig:
    """The settings that a rank gets at its start.

    Attributes:
        rendezvous: path of a file through which the ranks meet; nobody has written it yet.
        threads: number of threads of this process, if it computes on the CPU.
        stall_seconds: longest wait for the others in a collective.
    """

    rank: int
    mesh: Mesh
    rendezvous: str
    device: str
    dtype: AskedDType
    step_tokens: int | None
    reuse_prefix: int
    threads: int
    stall_seconds: float


class Rank(BestNativeBackend):
    """The engine of one rank: `score` is for its replica, `answer` for the full mesh.

    Args:
        model: includes weights on rank 0, which sends them to the others.
    """

    _most_graphs = 0  # communication between ranks is not recorded

    def __init__(self, model: Model | ModelDescription, station: RankConfig) -> None:
        if station.device == "gpu":
            torch.cuda.set_device(station.rank)
        else:
            torch.set_num_threads(station.threads)
        self._n_replicas = station.mesh.data
        self._replica, self._place_in_model = divmod(station.rank, station.mesh.model)
        self._mesh, self._ranks = station.mesh, join(station)
        super().__init__(
            cast("Model", model),  # only `_placed` looks at the weights
            device=station.device,
            dtype=station.dtype,
            step_tokens=station.step_tokens,
            reuse_prefix=station.reuse_prefix,
        )
        if station.mesh.model > 1:
            self._finish = functools.partial(finish_share, self._ranks.get_group("model"))

    def make_ready(self, requests: Sequence[ScoreRequest]) -> int:
        """Compile what this replica's share of the requests needs; return how many programs all ranks compiled."""
        before = len(self.compile_events)
        self.prepare([share for request in requests if (share := self.share_of(request)[1]) is not None])
        return int(self._summed(torch.zeros(0), before)[-1])

    def answer(self, request: ScoreRequest) -> tuple[Scores, int]:
        """Return the scores of all items, on every rank, and how many programs all ranks compiled for them."""
        before = len(self.compile_events)
        hand, share = self.share_of(request)
        scores = torch.zeros(len(request.items_ids), len(request.label_ids))
        if share is not None:
            replica_scores = torch.from_numpy(self.score(share))
            if self._place_in_model == 0:  # the replica's other ranks have the same scores
                scores[hand] = replica_scores
        summed = self._summed(scores.flatten(), before)
        return summed[:-1].reshape(scores.shape).numpy(), int(summed[-1])

    def share_of(self, request: ScoreRequest, replica: int | None = None) -> tuple[list[int], ScoreRequest | None]:
        """Return which items of a request are a replica's, and the request for them; None if it gets no item."""
        hands = deal_items(request, range(len(request.items_ids)), self._n_replicas)
        hand = hands[self._replica if replica is None else replica]
        items = tuple(request.items_ids[i] for i in hand)
        return hand, dataclasses.replace(request, items_ids=items) if items else None

    def _summed(self, values: Tensor, events_before: int) -> Tensor:
        """Sum every rank's values, and the number of programs that it compiled. This ends a call on all ranks."""
        n_made = torch.tensor([float(len(self.compile_events) - events_before)])
        table = torch.cat([values, n_made]).to(self._device)
        dist.all_reduce(table)
        return table.cpu()

    def _placed(
        self, model: Model | ModelDescription, dtype: DType
    ) -> tuple[DecoderConfig, DecoderWeights[Tensor], list[LayerWeights[Tensor]]]:
        """Distribute the weights leaf by leaf, layer by layer: no device ever stores more than one full matrix."""
        full_config = repeated_kv(model.config, self._mesh)
        given = {}
        if isinstance(model, Model):
            given = dict(repeat_kv_heads(model.config, model.weights, self._mesh).named_leaves())

        def share(name: str, shape: Sequence[int], array: np.ndarray | None, split: int | None) -> Tensor:
            if array is None:
                tensor = torch.empty(shape, dtype=devices.compute_dtype(dtype), device=self._device)
            else:
                tensor = devices.to_tensor(array).to(self._device, devices.compute_dtype(dtype))
            over_model = Replicate() if split is None else Shard(split)
            return distribute_tensor(tensor, self._ranks, [Replicate(), over_model]).to_local()

        leaves: dict[str, Tensor] = {}
        layers: list[dict[str, Tensor]] = [{} for _ in range(full_config.n_layers)]
        for name, shape in expected_shapes(full_config).items():
            array, split = given.get(name), split_axis(name)
            if not name.startswith("layers."):
                leaves[name] = share(name, shape, array, split)
                continue
            for l, layer in enumerate(layers):
                one = None if array is None else array[l]
                layer[name.removeprefix("layers.")] = share(name, shape[1:], one, None if split is None else split - 1)
        embed_vd = leaves["embed_vd"]
        sliced = [LayerWeights(**layer) for layer in layers]
        # Only engines that scan read the stacked layers of the tree; this one reads `sliced`.
        weights = DecoderWeights(embed_vd, sliced[0], leaves["final_norm_d"], leaves.get("head_vd", embed_vd))
        return device_share(model.config, self._mesh), weights, sliced


def join(station: RankConfig) -> DeviceMesh:
    """Meet the other ranks, and return when all are there."""
    kind, backend = {"cpu": ("cpu", "gloo"), "gpu": ("cuda", "nccl")}[station.device]
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "2")  # at a time-out, end the call and not the process
    timeout = timedelta(seconds=station.stall_seconds)
    # Documented as dist.FileStore, but not among the names that the package exports.
    store = dist.FileStore(station.rendezvous, station.mesh.size)  # pyright: ignore[reportPrivateImportUsage]
    dist.init_process_group(backend, store=store, rank=station.rank, world_size=station.mesh.size, timeout=timeout)
    ranks = np.arange(station.mesh.size).reshape(station.mesh.data, station.mesh.model)
    over_data, _ = dist.new_subgroups_by_enumeration(ranks.T.tolist(), timeout=timeout)
    over_model, _ = dist.new_subgroups_by_enumeration(ranks.tolist(), timeout=timeout)
    assert isinstance(over_data, dist.ProcessGroup) and isinstance(over_model, dist.ProcessGroup)
    return DeviceMesh.from_group([over_data, over_model], kind, mesh=ranks.tolist(), mesh_dim_names=("data", "model"))


def finish_share(
    group: dist.ProcessGroup, config: DecoderConfig, layer: LayerWeights[Tensor], x_td: Tensor, attended_tnh: Tensor
) -> Tensor:
    """Do what `finish_layer` does for a layer split over devices: two products, each summed over all parts."""
    part_td = attention_part(layer, attended_tnh)
    dist.all_reduce(part_td, group=group)
    x_td = x_td + part_td
    part_td = feed_forward_part(config, layer, x_td)
    dist.all_reduce(part_td, group=group)
    return x_td + part_td


@compiled
def attention_part(layer: LayerWeights[Tensor], attended_tnh: Tensor) -> Tensor:
    """Return what these heads add to the residual stream."""
    return linear(attended_tnh.flatten(1), layer.o_lnhd.flatten(0, 1), matmul)


@compiled
def feed_forward_part(config: DecoderConfig, layer: LayerWeights[Tensor], x_td: Tensor) -> Tensor:
    """Return what these feed-forward columns add to the residual stream."""
    return feed_forward(config, layer, x_td, matmul)


def main() -> None:
    orders, said = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries print at any time, and nobody reads what follows READY
    model, station = pickle.load(orders)
    with said:
        said.write(READY)
    rank = Rank(model, station)
    while True:
        try:
            order, argument = pickle.load(orders)
        except EOFError:
            break
        getattr(rank, order)(argument)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
