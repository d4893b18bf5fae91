"""From a machine's devices to the readiness of every (target, backend) that a plan needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from scorematrix.privacy import redacted
from scorematrix.readiness.devices import FrameworkDevices, Machine
from scorematrix.readiness.servers import lacking_server
from scorematrix.readiness.targets import Target, target
from scorematrix.readiness.tried import summed_up
from scorematrix.results.targets import CompiledRecord, Readiness, TargetRecord, TargetState
from scorematrix.results.times import utc_now
from scorematrix.scoring.place import ServerPlace
from scorematrix.scoring.registry import BACKENDS, missing_environment, missing_packages


def check_readiness(
    needed: Sequence[tuple[str, str, list[str]]],
    machine: Machine,
    description: str,
    only: Collection[str] | None = None,
    records: Mapping[str, TargetRecord] | None = None,
    compiled: Sequence[CompiledRecord] = (),
    servers: Mapping[str, ServerPlace] | None = None,
) -> Readiness:
    """Judge every (target, backend, views) on this machine.

    Args:
        description: the machine in words, for reports.
        only: backends that the user wants now; the others are skipped `by_user`.
        records: what was tried for targets that this machine may lack, by target.
        compiled: what their compilers proved of the plan's workload.
        servers: where the live servers among the backends are, by backend.
    """
    records, servers = records or {}, servers or {}
    states = [
        _state(target(name), backend, views, machine, only, records.get(name), servers.get(backend))
        for name, backend, views in needed
    ]
    states = [state.model_copy(update={"evidence": redacted(state.evidence)}) for state in states]
    now = utc_now()
    return Readiness(checked_utc=now, machine=description, states=states, compiled=list(compiled))


def _state(
    where: Target,
    backend: str,
    views: list[str],
    machine: Machine,
    only: Collection[str] | None,
    record: TargetRecord | None,
    place: ServerPlace | None,
) -> TargetState:
    entry = BACKENDS[backend]
    card = dict(target=where.name, label=where.label, backend=backend, views=views, datasheet=where.datasheet)
    if where.kind not in entry.device_kinds:
        return TargetState(
            **card,
            state="skipped",
            reason="unsupported",
            evidence=f"{backend} does not run on a {where.kind.upper()}",
            next_step="name another target for it in the params",
        )
    if only is not None and backend not in only:
        return TargetState(
            **card,
            state="skipped",
            reason="by_user",
            evidence=f"left out by --only {' '.join(only)}",
            next_step="repeat the command without --only",
        )
    if place is not None and place.url is not None:  # its device is where it is
        return _server_state(card, backend, place, f"a server answers at {place.url}")
    lacking = missing_packages(backend)
    has_it, evidence = _device(where, machine, machine.frameworks.get(entry.framework))
    if not has_it and record is not None and record.attempts:
        reason, tried, next_step = summed_up(where, record.attempts)
        return TargetState(
            **card, state="skipped", reason=reason, evidence=tried, next_step=next_step, attempts=record.attempts
        )
    if not has_it:
        return TargetState(**card, state="skipped", reason="no_device", evidence=evidence, next_step=where.get_it)
    if place is not None:
        return _server_state(card, backend, place, f"{evidence}, and the server's program")
    if lacking:
        extra = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}[where.kind]
        return TargetState(
            **card,
            state="skipped",
            reason="not_installed",
            evidence=f"the package {lacking[0]} is not installed in this environment",
            next_step=f"`make setup EXTRAS={extra}`, then repeat the command",
        )
    if (environment := missing_environment(backend)) is not None:
        return TargetState(
            **card,
            state="skipped",
            reason="not_installed",
            evidence=f"its own environment {environment} has not been built",
            next_step="`make peers`, then repeat the command",
        )
    seen = machine.frameworks.get(entry.framework) or FrameworkDevices(())
    if where.kind in machine.taken and not _matches(where, seen):
        return TargetState(
            **card,
            state="skipped",
            reason="in_use",
            evidence=f"{evidence}, but {machine.taken[where.kind]}",
            next_step="end that process or wait for it, then repeat the command",
        )
    if where.kind != "cpu" and not _matches(where, seen):
        lists = ", ".join(name for _, name in seen.devices) or "no accelerator"
        extra = {"gpu": "cuda", "tpu": "tpu"}[where.kind]
        return TargetState(
            **card,
            state="skipped",
            reason="not_installed",
            evidence=f"{evidence}, but {backend} sees {lists}" + (f" ({seen.error})" if seen.error else ""),
            next_step=f"`make setup EXTRAS={extra}`, then repeat the command",
        )
    if (n := _n_matching(where, seen)) < where.n_chips and where.kind != "cpu":
        return TargetState(
            **card,
            state="skipped",
            reason="no_device",
            evidence=f"{evidence}: {n} of the {where.n_chips} chips that {where.name} has",
            next_step=where.get_it,
        )
    return TargetState(**card, state="ready", evidence=evidence)


def _server_state(card: dict[str, Any], backend: str, place: ServerPlace, evidence: str) -> TargetState:
    lacking = lacking_server(backend, place)
    if lacking is None:
        return TargetState(**card, state="ready", evidence=evidence)
    reason, found, next_step = lacking
    return TargetState(**card, state="skipped", reason=reason, evidence=found, next_step=next_step)


def _device(where: Target, machine: Machine, seen: FrameworkDevices | None) -> tuple[bool, str]:
    """Whether the machine has the target's device, by its driver or the framework, and what shows it."""
    if where.kind == "cpu":
        return True, "this machine's CPU"
    if seen is not None and _matches(where, seen):
        return True, f"the framework sees {', '.join(name for _, name in seen.devices)}"
    if where.kind == "gpu":
        listed = any(part.lower() in name.lower() for name in machine.nvidia for part in where.device_names)
        return listed, machine.nvidia_evidence
    return machine.has_tpu, machine.tpu_evidence


def _matches(where: Target, seen: FrameworkDevices) -> bool:
    return _n_matching(where, seen) > 0


def _n_matching(where: Target, seen: FrameworkDevices) -> int:
    return sum(any(part.lower() in name.lower() for part in where.device_names) for _, name in seen.devices)
