"""What was found of a live server: kept beside the rounds, of this run only, the last one after a merge."""

from __future__ import annotations

from pathlib import Path

import pytest

from scorematrix.analysis import open_run
from scorematrix.report import ReportPage
from scorematrix.results import RunStore, merge_runs
from scorematrix.results.audits import AuditReport, Gate
from scorematrix.results.transfer import pack_round, unpack_round
from scorematrix.servers.studies import ServerStudy
from tests.factory import make_params, write_run

SERVED = {
    "backends": [
        {"backend": "sglang", "views": ["server"], "server": {"url": "http://127.0.0.1:9"}},
        {"backend": "sglang-jax", "views": ["server"], "server": {"url": "http://127.0.0.1:9"}},
    ]
}


def study_of(store: RunStore, at: str = "2026-01-01T00:00:00+00:00", **changes: object) -> ServerStudy:
    manifest = store.manifest()
    audit = AuditReport(
        backend="sglang",
        view="server",
        device="cpu",
        dtype="float32",
        model="m",
        url="http://127.0.0.1:9/v1/score",
        gates=[Gate(name="parity", status="failed", detail="<off> by 0.1", request='{"query":[1]}')],
    )
    own = dict(params_sha256=manifest.params_sha256, workload_sha256=manifest.workload_sha256, at_utc=at, audit=audit)
    return ServerStudy(backend="sglang", target="cpu", **(own | changes))


def run(folder: Path, name: str = "r") -> RunStore:
    return write_run(folder / "outputs" / "runs" / name, params=make_params(**SERVED))


def test_a_study_is_kept_and_shown(tmp_path: Path) -> None:
    store = run(tmp_path)
    store.write_study(study_of(store))
    assert store.studies() == [study_of(store)]
    page = ReportPage(open_run(store.folder)).servers().html
    for words in (
        "UNSOUND",
        "parity",
        "&lt;off&gt; by 0.1",
        "curl -s http://127.0.0.1:9",
    ):
        assert words in page, words


@pytest.mark.parametrize("field", ["params_sha256", "workload_sha256"])
def test_a_study_of_another_run_is_refused(tmp_path: Path, field: str) -> None:
    store = run(tmp_path)
    store.write_study(study_of(store, **{field: "f" * 64}))
    with pytest.raises(ValueError, match=f"r/studies/sglang.cpu.json: {field}=ffffffffffff"):
        store.studies()


def test_an_edited_study_is_refused(tmp_path: Path) -> None:
    store = run(tmp_path)
    store.write_study(study_of(store))
    (path,) = (store.folder / "studies").iterdir()
    path.write_text(path.read_text().replace('"failed"', '"passed"'))
    with pytest.raises(ValueError, match="sha256="):
        store.studies()


def test_a_study_travels_with_its_round(tmp_path: Path) -> None:
    node, driver = run(tmp_path / "node"), run(tmp_path / "driver")
    node.write_study(study_of(node))
    (name, *_) = (round_.name for round_ in node.rounds())
    unpack_round(driver, name, pack_round(node, name, "no notebook"))
    assert driver.studies() == node.studies() != []


def test_a_merge_keeps_the_last_of_each_server_in_either_order(tmp_path: Path) -> None:
    first, second = "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"
    for into, other in ((first, second), (second, first)):
        one, two = run(tmp_path / into[:10], "one"), run(tmp_path / into[:10], "two")
        one.write_study(study_of(one, into))
        two.write_study(study_of(two, other))
        merge_runs(one, [two])
        assert [study.at_utc for study in one.studies()] == [second]
