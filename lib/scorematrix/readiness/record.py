"""From a machine's devices to the readiness of every (target, backend) that a plan needs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from scorematrix.readiness.devices import FrameworkDevices, Machine
from scorematrix.readiness.targets import Target, target
from scorematrix.results.schema import Readiness, TargetState
from scorematrix.scoring.registry import BACKENDS, missing_environment, missing_packages


def check_readiness(
    needed: Sequence[tuple[str, str, list[str]]],
    machine: Machine,
    description: str,
    only: Collection[str] | None = None,
) -> Readiness:
    """Judge every (target, backend, views) on this machine.

    Args:
        description: the machine in words, for reports.
        only: backends that the user wants now; the others are skipped `by_user`.
    """
    states = [_state(target(name), backend, views, machine, only) for name, backend, views in needed]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Readiness(checked_utc=now, machine=description, states=states)


def _state(
    where: Target, backend: str, views: list[str], machine: Machine, only: Collection[str] | None
) -> TargetState:
    entry = BACKENDS[backend]
    card = dict(target=where.name, label=where.label, backend=backend, views=views)
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
    lacking = missing_packages(backend)
    has_it, evidence = _device(where, machine, machine.frameworks.get(entry.framework))
    if not has_it:
        return TargetState(**card, state="skipped", reason="no_device", evidence=evidence, next_step=where.get_it)
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
    return TargetState(**card, state="ready", evidence=evidence)


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
    return any(part.lower() in name.lower() for _, name in seen.devices for part in where.device_names)
