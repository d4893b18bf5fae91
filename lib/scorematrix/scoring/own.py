"""Custom scorers, given as `module:attribute`, by an installed package's entry point, or as an object.

A custom scorer is a callable `(query_ids, items_ids, label_ids) -> float32 [n_items, n_labels]`, a class that keeps
the `Backend` protocol, or an object that does.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorematrix.scoring.contract import Backend, BackendInfo, CompileEvent, Scores, checked_scores
from scorematrix.workload.request import ScoreRequest

if TYPE_CHECKING:
    from scorematrix.models.catalogue import Model

GROUP = "scorematrix.backends"
"""The entry point group in which a package registers its scorers: `name = "module:attribute"`."""
VIEW = "own"
"""The only view of a custom scorer."""
FOLDERS = "SCOREMATRIX_PATH"
"""Environment variable: folders of scorer modules that are not installed. Rounds run in other processes and need it."""

ScoreFunction = Callable[..., Any]
"""`(query_ids, items_ids, label_ids)`, plus `apply_softmax=` if it supports both values."""
_ADDRESS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def registered_backends() -> dict[str, str]:
    """Return the `module:attribute` of the scorers that installed packages register, by name. Import nothing."""
    return {point.name: point.value for point in importlib.metadata.entry_points(group=GROUP)}


def address_of(backend: str) -> str | None:
    """Return the `module:attribute` of a backend's name; None if it names no custom scorer."""
    if _ADDRESS.fullmatch(backend):
        return backend
    return registered_backends().get(backend)


def missing_module(address: str) -> str | None:
    """Return the module of an address if its top-level package is missing, else None. Import no module."""
    module = address.partition(":")[0]
    _look_in_folders()
    return None if importlib.util.find_spec(module.partition(".")[0]) else module


def remember_folder(folder: Path) -> None:
    """Let this process and its children find scorer modules in a folder, after all installed modules."""
    folders = os.environ.get(FOLDERS, "").split(os.pathsep)
    if str(folder) not in folders:
        os.environ[FOLDERS] = os.pathsep.join(filter(None, [*folders, str(folder)]))


def load_own(
    scorer: Any, model: Model, *, name: str | None = None, device: str = "auto", dtype: str = "auto"
) -> Backend:
    """Make a backend of a custom scorer.

    Args:
        scorer: `module:attribute`, or the object at such an address.
        name: the backend's name; by default the address, or the object's `__name__`.
        device, dtype: passed to a class that takes them; not used for a callable.

    Raises:
        ValueError: naming what cannot be imported or is not a scorer.
    """
    settings: dict[str, str | int | float | bool] = {"model": model.name}
    if isinstance(scorer, str):
        name, target = name or scorer, _imported(scorer)
        settings |= _source(scorer.partition(":")[0])
    else:
        target = scorer
        name = name or str(getattr(scorer, "__name__", type(scorer).__name__))
    if inspect.isclass(target):
        target = target(**_taken_arguments(target, {"model": model, "device": device, "dtype": dtype}))
    if isinstance(target, Backend):
        target.info = replace(target.info, backend=name, view=VIEW, settings=settings | target.info.settings)
        return target
    if not callable(target):
        raise ValueError(
            f"backend={name!r} is {type(target).__name__}, which is not a scorer; give a callable "
            "(query_ids, items_ids, label_ids) -> probabilities, or a class with info, compile_events, prepare, score"
        )
    return CallableBackend(target, name, model, settings)


class CallableBackend:
    """A callable behind the Backend protocol. Its measured time includes no code of ours except `score`."""

    def __init__(self, function: ScoreFunction, name: str, model: Model, settings: dict[str, Any]) -> None:
        self._function, self._name, self._vocab_size = function, name, model.config.vocab_size
        self._takes_softmax = "apply_softmax" in _parameters(function)
        self.info = BackendInfo(
            backend=name,
            view=VIEW,
            framework="own",
            device="cpu",
            dtype="float32",
            precision="as the callable computes",
            settings=settings,
            softmax_only=not self._takes_softmax,
        )
        self.compile_events: list[CompileEvent] = []

    def prepare(self, requests: Sequence[ScoreRequest]) -> None:
        """Do nothing: a callable initializes when it is imported or first called."""

    def score(self, request: ScoreRequest) -> Scores:
        """Call the callable.

        Raises:
            ValueError: if it raises, or returns anything but float32 [n_items, n_labels].
        """
        request.check_vocabulary(self._vocab_size)
        options = {"apply_softmax": request.apply_softmax} if self._takes_softmax else {}
        if self.info.softmax_only and not request.apply_softmax:
            raise ValueError(
                f"apply_softmax=False is not served by backend {self._name!r}, whose callable takes no apply_softmax; "
                "give it that parameter, or use apply_softmax=True"
            )
        try:
            scores = self._function(request.query_ids, request.items_ids, request.label_ids, **options)
        except Exception as error:
            raise ValueError(f"backend {self._name!r} raised {type(error).__name__}: {error}") from error
        return checked_scores(scores, request, self._name)


def _imported(address: str) -> Any:
    module, _, attribute = address.partition(":")
    _look_in_folders()
    try:
        target = importlib.import_module(module)
        for part in attribute.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"backend={address!r} cannot be loaded: {error}; write module:attribute, with the module installed or in "
            f"the working directory (or set {FOLDERS} to its folder)"
        ) from error
    return target


def _look_in_folders() -> None:
    for folder in os.environ.get(FOLDERS, os.getcwd()).split(os.pathsep):
        if folder and folder not in sys.path:
            sys.path.append(folder)
            importlib.invalidate_caches()


def _source(module: str) -> dict[str, str]:
    """Return the checksum of a module's file. It differs between rounds if the scorer was edited in between."""
    path = getattr(sys.modules.get(module), "__file__", None)
    return {"source_sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest()} if path else {}


def _taken_arguments(made: type, offered: dict[str, Any]) -> dict[str, Any]:
    taken = _parameters(made)
    if any(kind is inspect.Parameter.VAR_KEYWORD for kind in taken.values()):
        return offered
    return {name: value for name, value in offered.items() if name in taken}


def _parameters(of: Callable[..., Any]) -> dict[str, Any]:
    try:
        return {name: parameter.kind for name, parameter in inspect.signature(of).parameters.items()}
    except (TypeError, ValueError):  # built in C without a signature
        return {}
