"""Transfer files of a run folder to another machine and back, byte for byte, so that checksums stay valid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from scorematrix.results.files import write_bytes
from scorematrix.results.mirror import FIXED
from scorematrix.results.schema import Round
from scorematrix.results.store import RunStore

Parcel = Mapping[str, bytes]
"""File contents by path within the run folder."""


def pack_plan(store: RunStore) -> Parcel:
    """Return what a round needs of a run: params and workload."""
    return _pack(store, FIXED)


def pack_round(store: RunStore, name: str, notebook: str) -> Parcel:
    """Return a finished round, with its executed notebook and the studies of live servers if there are any."""
    studies = (f"studies/{study.name}.json" for study in store.studies())
    return _pack(store, [*studies, _notebook_path(notebook), _round_path(name)])  # the round last: it marks completion


def unpack(store: RunStore, parcel: Parcel) -> None:
    """Write the files into a run folder."""
    for path, content in parcel.items():
        write_bytes(store.folder / path, content)


def unpack_round(store: RunStore, name: str, parcel: Parcel) -> Round:
    """Check a round, then write its files.

    Raises:
        ValueError: if the round is incomplete or of another run; nothing is written.
    """
    round_ = Round.model_validate_json(parcel[_round_path(name)])
    manifest = store.manifest()
    ours = name, manifest.params_sha256, manifest.workload_sha256
    if (theirs := (round_.name, round_.params_sha256, round_.workload_sha256)) != ours:
        raise ValueError(f"round {name}: the returned round is {theirs}, expected {ours}")
    unpack(store, parcel)
    return round_


def _pack(store: RunStore, paths: Iterable[str]) -> Parcel:
    return {path: (store.folder / path).read_bytes() for path in paths if (store.folder / path).is_file()}


def _round_path(name: str) -> str:
    return f"rounds/{name}.json"


def _notebook_path(name: str) -> str:
    return f"notebooks/{name}.ipynb"
