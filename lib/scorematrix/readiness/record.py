"""Judge the readiness of every (target, backend) of a plan from a machine's devices."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

from scorematrix.privacy import redacted
from scorematrix.readiness.attempts import summed_up
from scorematrix.readiness.devices import FrameworkDevices, Machine
from scorematrix.readiness.targets import Target, target
from scorematrix.results.files import utc_now
from scorematrix.results.target_records import Attempt, CompiledRecord, Readiness, SkipReason, TargetRecord, TargetState
from scorematrix.scoring.place import ServerPlace
from scorematrix.scoring.registry import backend_entry, missing_environment, missing_packages
from scorematrix.wings import needed_wing


def frameworks_in(needed: Sequence[tuple[str, str, list[str]]]) -> set[str]:
    """Return the frameworks that a plan runs on accelerators: their devices decide what can run."""
    return {backend_entry(backend).framework for name, backend, _ in needed if target(name).kind != "cpu"}


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
        description: the machine as text, for reports.
        only: backends that the user wants now; the others are skipped `by_user`.
        records: attempts for targets that this machine may lack, by target.
        compiled: compile results for the plan's workload.
        servers: address or launch command of the live servers, by backend.
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
    entry = backend_entry(backend)
    state = partial(
        TargetState,
        target=where.name,
        label=where.label,
        backend=backend,
        views=views,
        datasheet=where.datasheet,
    )

    def ready(evidence: str) -> TargetState:
        return state(state="ready", evidence=evidence)

    def skipped(reason: SkipReason, evidence: str, next_step: str, attempts: Sequence[Attempt] = ()) -> TargetState:
        return state(state="skipped", reason=reason, evidence=evidence, next_step=next_step, attempts=list(attempts))

    def server_state(place: ServerPlace, evidence: str) -> TargetState:
        lacking = needed_wing("servers", f"backend {backend!r}").lacking_server(backend, place)
        return ready(evidence) if lacking is None else skipped(*lacking)

    if where.kind not in entry.device_kinds:
        return skipped(
            "unsupported",
            f"{backend} does not run on a {where.kind.upper()}",
            "name another target for it in the params",
        )
    if only is not None and backend not in only:
        return skipped("by_user", f"left out by --only {' '.join(only)}", "repeat the command without --only")
    if place is not None and place.url is not None:  # its device may be on another machine
        return server_state(place, f"a server answers at {place.url}")
    lacking = missing_packages(backend)
    has_it, evidence = _device(where, machine, machine.frameworks.get(entry.framework))
    if not has_it and record is not None and record.attempts:
        reason, tried, next_step = summed_up(where, record.attempts)
        return skipped(reason, tried, next_step, record.attempts)
    if not has_it:
        return skipped("no_device", evidence, where.get_it)
    if place is not None:
        return server_state(place, f"{evidence}, and the server's program")
    if lacking and entry.address is not None:
        return skipped(
            "not_installed",
            f"the module {lacking[0]} of this scorer is not importable",
            f"install its package, or run the command in the folder of {lacking[0].partition('.')[0]}",
        )
    if lacking:
        return skipped(
            "not_installed",
            f"the package {lacking[0]} is not installed in this environment",
            f"`make setup EXTRAS={where.extra}`, then repeat the command",
        )
    if (environment := missing_environment(backend)) is not None:
        return skipped(
            "not_installed",
            f"its environment {environment} has not been built",
            "`make peers`, then repeat the command",
        )
    if entry.address is not None:  # only the scorer knows its device
        return ready(evidence)
    seen = machine.frameworks.get(entry.framework) or FrameworkDevices(())
    if where.kind in machine.taken and not _matches(where, seen):
        return skipped(
            "in_use",
            f"{evidence}, but {machine.taken[where.kind]}",
            "end that process or wait for it, then repeat the command",
        )
    if where.kind != "cpu" and not _matches(where, seen):
        lists = ", ".join(name for _, name in seen.devices) or "no accelerator"
        return skipped(
            "not_installed",
            f"{evidence}, but {backend} sees {lists}" + (f" ({seen.error})" if seen.error else ""),
            f"`make setup EXTRAS={where.extra}`, then repeat the command",
        )
    if (n := _n_matching(where, seen)) < where.n_devices and where.kind != "cpu":
        what = "chips" if where.devices_a_chip == 1 else "devices"
        return skipped(
            "no_device", f"{evidence}: {n} of the {where.n_devices} {what} that {where.name} has", where.get_it
        )
    return ready(evidence)


def _device(where: Target, machine: Machine, seen: FrameworkDevices | None) -> tuple[bool, str]:
    """Return whether the machine has the target's device, by its driver or the framework, and the evidence."""
    if where.kind == "cpu":
        return True, "this machine's CPU"
    if seen is not None and _matches(where, seen):
        return True, f"the framework sees {', '.join(name for _, name in seen.devices)}"
    if where.kind == "gpu":
        return any(map(where.is_named, machine.nvidia)), machine.nvidia_evidence
    return machine.has_tpu, machine.tpu_evidence


def _matches(where: Target, seen: FrameworkDevices) -> bool:
    return _n_matching(where, seen) > 0


def _n_matching(where: Target, seen: FrameworkDevices) -> int:
    return sum(where.is_named(name) for _, name in seen.devices)
