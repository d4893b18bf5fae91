"""Which backends exist and how to load each; importing this module loads no framework."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from scorematrix.scoring.contract import Backend, DType
from scorematrix.scoring.mesh import Mesh
from scorematrix.scoring.own import VIEW, address_of, load_own, missing_module, registered_backends
from scorematrix.wings import wing

if TYPE_CHECKING:
    from scorematrix.models.catalogue import Model

Framework = Literal["jax", "pytorch", "ggml", "own"]
DeviceKind = Literal["cpu", "gpu", "tpu"]


@dataclass(frozen=True)
class BackendEntry:
    """A backend's framework, packages it imports, device kinds, and a loader per view.

    Attributes:
        environment: the separate environment that it runs in, built by `make peers`; None: it runs in ours.
        is_live: a server, which must run somewhere or be launched; `servers.client` connects to it.
        sharded: a loader per view that can be spread over several devices.
        address: the `module:attribute` of a custom scorer; None: one of ours.
        has_openmp: on a CPU its threads are OpenMP's, so their wait policy must be chosen (rule 7).
    """

    framework: Framework
    packages: tuple[str, ...]
    device_kinds: tuple[DeviceKind, ...]
    views: dict[str, str]
    environment: str | None = None
    sharded: dict[str, str] = field(default_factory=dict)
    is_live: bool = False
    address: str | None = None
    has_openmp: bool = False

    @property
    def default_view(self) -> str:
        """Its fastest view: `best_native`, or else the first of its views."""
        return "best_native" if "best_native" in self.views else next(iter(self.views))


def _live(framework: Framework) -> BackendEntry:
    kinds: tuple[DeviceKind, ...] = ("cpu", "gpu", "tpu")
    return BackendEntry(framework, (), kinds, {"server": ""}, is_live=True, has_openmp=framework == "pytorch")


BACKENDS: dict[str, BackendEntry] = {
    "jax": BackendEntry(
        framework="jax",
        packages=("jax",),
        device_kinds=("cpu", "gpu", "tpu"),
        views={
            "portable": "scorematrix.scoring.jax.portable:PortableBackend",
            "best_native": "scorematrix.scoring.jax.best_native:BestNativeBackend",
        },
        sharded={"best_native": "scorematrix.scoring.jax.sharded:ShardedBackend"},
    ),
    "pytorch": BackendEntry(
        framework="pytorch",
        packages=("torch",),
        device_kinds=("cpu", "gpu"),
        views={
            "portable": "scorematrix.scoring.pytorch.portable:PortableBackend",
            "best_native": "scorematrix.scoring.pytorch.best_native:BestNativeBackend",
        },
        sharded={"best_native": "scorematrix.scoring.pytorch.sharded:ShardedBackend"},
        has_openmp=True,
    ),
    "transformers": BackendEntry(
        framework="pytorch",
        packages=("torch", "transformers"),
        device_kinds=("cpu", "gpu"),
        views={
            "per_item": "scorematrix.scoring.transformers.views:PerItemBackend",
            "expanded_cache": "scorematrix.scoring.transformers.views:ExpandedCacheBackend",
            "packed": "scorematrix.scoring.transformers.views:PackedBackend",
        },
        has_openmp=True,
    ),
    "llama-cpp": BackendEntry(
        framework="ggml",
        packages=(),
        device_kinds=("cpu",),
        views={"shared_prefix": "scorematrix.scoring.peers.backend:LlamaCppBackend"},
        environment="llama-cpp",
        has_openmp=True,
    ),
    "vllm-cpu": BackendEntry(
        framework="pytorch",
        packages=(),
        device_kinds=("cpu",),
        views={"prefix_cache": "scorematrix.scoring.peers.backend:VllmBackend"},
        environment="vllm",
        has_openmp=True,
    ),
}
if (_servers := wing("servers")) is not None:
    BACKENDS |= {kind: _live(framework) for kind, framework in _servers.FRAMEWORKS.items()}


PEERS = Path(sys.prefix) / "peers"
"""The folder of other scorers' environments; `make peers` builds some of them."""
REFERENCE = ("transformers", "per_item")
"""Backend and view whose float32 scores, one sequence per item, define the exact result."""


def backend_entry(backend: str, view: str | None = None) -> BackendEntry:
    """Return the entry of a backend that serves a view; without a view, of any known backend.

    A backend is one of `BACKENDS`, a name that an installed package registers, or a `module:attribute`.

    Raises:
        ValueError: naming the unknown backend or view and the nearest known one.
    """
    if (entry := BACKENDS.get(backend)) is None:
        if (address := address_of(backend)) is None:
            known = [*BACKENDS, *registered_backends()]
            raise ValueError(
                f"backend={backend!r} is unknown{_nearest(backend, known)}; name a custom scorer as module:attribute"
            )
        entry = BackendEntry("own", (), ("cpu", "gpu", "tpu"), {VIEW: address}, address=address)
    if view is not None and view not in entry.views:
        raise ValueError(f"view={view!r} is not served by backend {backend!r}{_nearest(view, entry.views)}")
    return entry


def missing_packages(backend: str) -> list[str]:
    """Return the packages that the backend needs and this environment lacks. Import nothing."""
    entry = backend_entry(backend)
    if entry.address is not None:
        return [module] if (module := missing_module(entry.address)) else []
    return [name for name in entry.packages if importlib.util.find_spec(name) is None]


def peer_python(environment: str) -> Path:
    """Return the path of the Python in a separate environment, built or not."""
    return PEERS / environment / "bin" / "python"


def missing_environment(backend: str) -> str | None:
    """Return the separate environment that the backend runs in if it has not been built, else None."""
    environment = backend_entry(backend).environment
    return environment if environment and not peer_python(environment).is_file() else None


def load_backend(
    backend: str | Callable[..., Any] | type | Backend,
    *,
    view: str | None = None,
    model: str | Model = "smollm2-135m",
    device: Literal["auto"] | DeviceKind = "auto",
    dtype: Literal["auto"] | DType = "auto",
    reuse_prefix: int = 0,
    mesh: str | Mesh | None = None,
    attention: str | None = None,
) -> Backend:
    """Load a model into a backend, ready to score.

    Args:
        backend: a name, a `module:attribute`, or a custom scorer as an object: a callable
            `(query_ids, items_ids, label_ids) -> float32 [n_items, n_labels]`, or one with the `Backend` protocol.
        view: by default "portable" if the backend has it, else the entry's `default_view`.
        model: a catalogue name (`scorematrix models` lists them), a path, a hub id, or a loaded `Model`.
        device: "auto" takes the framework's accelerator if there is one, else the CPU.
        dtype: "auto" is the fastest that passes the numerics gate on the device; `info.settings` says which and why.
        reuse_prefix: number of queries whose keys and values are kept between calls; `best_native` only.
        attention: one of the engine's `attention_forms` on the device; `best_native` without a mesh only.
        mesh: devices to spread over, for example "data=2,model=4" (see `scoring.sharding`); `best_native` only.

    Raises:
        ValueError: for an unknown backend, view, model, dtype, or a device or mesh the backend cannot use.
        ModuleNotFoundError: naming the package that is not installed and how to install it.
    """
    if dtype not in ("auto", "float32", "bfloat16"):
        raise ValueError(f"dtype={dtype!r} is unknown; choose auto, float32 or bfloat16")
    if not isinstance(backend, str):
        return load_own(backend, _loaded(model), device=device, dtype=dtype)
    entry = backend_entry(backend, view)
    view = view or ("portable" if "portable" in entry.views else entry.default_view)
    if entry.is_live:
        raise ValueError(f"backend={backend!r} is a live server; connect to it with servers.client.ScoreClient(url)")
    if device != "auto" and device not in entry.device_kinds:
        kinds = ", ".join(entry.device_kinds)
        raise ValueError(f"device={device!r} cannot be used by backend {backend!r}; it runs on auto, {kinds}")
    if reuse_prefix and view != "best_native":
        raise ValueError(f"reuse_prefix={reuse_prefix} is not served by view {view!r}; use view 'best_native' or 0")
    loaders, options = entry.views, {"reuse_prefix": reuse_prefix} if reuse_prefix else {}
    if attention is not None:
        if view != "best_native" or mesh is not None:
            raise ValueError(
                f"attention={attention!r} needs view 'best_native' without a mesh, not {view!r}; leave it out"
            )
        options = {**options, "attention": attention}
    if mesh is not None:
        loaders, options = sharded_loaders(backend, view, mesh), {**options, "mesh": Mesh.parse(mesh)}
    if entry.address is not None:
        return load_own(entry.address, _loaded(model), name=backend, device=device, dtype=dtype)
    if missing := missing_packages(backend):
        raise ModuleNotFoundError(
            f"backend {backend!r} needs the package {missing[0]!r}, which is not installed; "
            "install scorematrix with the extra cpu, tpu or cuda"
        )
    if environment := missing_environment(backend):
        raise ModuleNotFoundError(
            f"backend {backend!r} needs the environment {environment!r}; build it with `make peers`"
        )
    module, factory = loaders[view].split(":")
    return getattr(importlib.import_module(module), factory)(_loaded(model), device=device, dtype=dtype, **options)


def _loaded(model: str | Model) -> Model:
    from scorematrix.models.catalogue import load_model

    return load_model(model) if isinstance(model, str) else model


@dataclass(frozen=True)
class BackendRow:
    """A backend as `scorematrix models` lists it.

    Attributes:
        origin: "scorematrix" or "live server" for ours, else the `module:attribute` that a package registers.
        lacks: the package or environment that is missing here; None: it can be loaded.
    """

    name: str
    views: tuple[str, ...]
    origin: str
    lacks: str | None


def list_backends() -> list[BackendRow]:
    """List every backend that has a name: ours, and those that installed packages register."""
    rows = []
    for name in dict.fromkeys([*BACKENDS, *registered_backends()]):
        entry = backend_entry(name)
        origin = entry.address or ("live server" if entry.is_live else "scorematrix")
        lacking = next(iter(missing_packages(name)), None) or missing_environment(name)
        rows.append(BackendRow(name, tuple(entry.views), origin, lacking))
    return rows


def sharded_loaders(backend: str, view: str, mesh: str | Mesh) -> dict[str, str]:
    """Return the loaders of a backend's views over a mesh.

    Raises:
        ValueError: for a view that runs on one device only.
    """
    if view not in (loaders := backend_entry(backend).sharded):
        raise ValueError(
            f"mesh={str(mesh)!r} is not served by view {view!r} of backend {backend!r}, which runs on one device; "
            "use view 'best_native' of jax or pytorch, or leave mesh out"
        )
    return loaders


def _nearest(value: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(value, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
