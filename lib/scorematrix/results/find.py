"""Find a run by its folder, its id, or as the newest one."""

from __future__ import annotations

from pathlib import Path

from scorematrix.results.store import RunStore

OUTPUTS = Path(__file__).resolve().parents[3] / "outputs"
"""The outputs folder of this clone."""


class NoRunYet(ValueError):
    """No run has been recorded here."""


def find_run(run: str | Path = "", outputs: Path | str = "outputs") -> RunStore:
    """Open a run by its folder, by its id under `outputs/runs`, or by its name under `outputs/reference`.

    Unless another folder is named, the clone's outputs are searched too: a notebook finds a run from anywhere.

    Args:
        run: empty takes the newest run.

    Raises:
        NoRunYet: if the newest is requested and there is none.
        ValueError: naming the run, the searched folder, and the runs that exist.
    """
    places = [Path(outputs), *([OUTPUTS] if str(outputs) == "outputs" else [])]
    newest = [store for place in places for store in newest_runs(place)]
    if not str(run):
        if newest:
            return newest[0]
        raise NoRunYet(f"no run is recorded under {outputs}/runs yet; `make report` makes one")
    for folder in (Path(run), *(place / kind / str(run) for place in places for kind in ("runs", "reference"))):
        if (folder / "run.json").is_file():
            return RunStore(folder)
    known = sorted(store.folder.name for store in newest)
    raise ValueError(
        f"run={str(run)!r} is neither a run folder nor a run id under {outputs}/runs; "
        f"known: {', '.join(known) or 'none yet, start one with `scorematrix run`'}"
    )


def newest_runs(outputs: Path | str) -> list[RunStore]:
    """List the runs under `outputs/runs`, the newest first."""
    paths = sorted(Path(outputs).glob("runs/*/run.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [RunStore(path.parent) for path in paths]
