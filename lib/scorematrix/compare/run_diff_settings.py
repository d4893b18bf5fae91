"""List other differences between two runs: machine, software, settings. They may explain a change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scorematrix.results.schema import Round

ABSENT = "not there"


@dataclass(frozen=True)
class Difference:
    """One difference, on one target or of one side.

    Attributes:
        kind: machine, software or settings (of a side, number format included).
    """

    kind: str
    where: str
    what: str
    old: str
    new: str


def different(old: Sequence[Round], new: Sequence[Round]) -> list[Difference]:
    """Return every difference of the targets and sides that have rounds in both runs, machines first."""
    differences = []
    for kind, read in (("machine", _machine), ("software", _software), ("settings", _settings)):
        before, now = _values(old, read), _values(new, read)
        both = {where for where, _ in before} & {where for where, _ in now}
        for where, what in dict.fromkeys([*before, *now]):
            values = [", ".join(sorted(recorded.get((where, what), {ABSENT}))) for recorded in (before, now)]
            if where in both and values[0] != values[1]:
                differences.append(Difference(kind, where, what, *values))
    return differences


def one_device(rounds: Sequence[Round]) -> bool:
    """Return whether rounds are known to come from one machine, one set of cores and one device (rule 1)."""
    known = [r.environment for r in rounds if r.environment]
    machines = {(e.machine_sha256, e.cpu, tuple(e.affinity)) for e in known}
    devices = {r.record.device for r in rounds if r.record}
    gpus = {tuple(gpu.name for gpu in r.noise.gpus) for r in rounds if r.noise}
    return len(machines) == 1 and len(devices) <= 1 and len(gpus) <= 1


def _values(rounds: Iterable[Round], read) -> dict[tuple[str, str], set[str]]:
    values: dict[tuple[str, str], set[str]] = {}
    for round_ in rounds:
        for where, what, value in read(round_):
            values.setdefault((where, what), set()).add(value)
    return values


def _machine(round_: Round) -> Iterable[tuple[str, str, str]]:
    if (e := round_.environment) is None:
        return
    yield round_.target, "machine (hash)", e.machine_sha256[:12]
    yield round_.target, "processor", e.cpu
    yield round_.target, "cores", f"{len(e.affinity)} of {e.n_cores}"
    yield round_.target, "memory", f"{round(e.memory_bytes / 2**30)} GiB"
    for gpu in round_.noise.gpus if round_.noise else ():
        limit = f", {gpu.power_limit_watts:.0f} W" if gpu.power_limit_watts else ""
        yield round_.target, "GPU", f"{gpu.name}{limit}"


def _software(round_: Round) -> Iterable[tuple[str, str, str]]:
    if (e := round_.environment) is None:
        return
    yield round_.target, "operating system", e.platform
    yield round_.target, "Python", e.python
    yield round_.target, "commit", f"{(e.git_commit or 'none')[:12]}{', with changes' if e.git_dirty else ''}"
    for gpu in round_.noise.gpus if round_.noise else ():
        yield round_.target, "GPU driver", gpu.driver
    for name, version in e.packages.items():
        yield round_.target, name, version
    for name, value in e.variables.items():
        yield round_.target, name, value


def _settings(round_: Round) -> Iterable[tuple[str, str, str]]:
    if (record := round_.record) is None or round_.role == "control":
        return
    where = f"{round_.backend} {round_.view} on {round_.target}"
    yield where, "device", record.device
    yield where, "dtype", record.dtype
    yield where, "precision", record.precision
    for name, value in record.settings.items():
        yield where, name, str(value)
    yield where, "fallbacks", "; ".join(record.fallbacks) or "none"
