"""Put one fault at a time into a copy of the library and see whether its tests notice. A script, not a test.

    nice python tests/mutations.py [--only ID ...] [--marker "not chaos"] [--check] [--out FILE]

Exit codes: 0 every fault was caught; 1 one was missed; 2 the table is out of date or tests fail without a fault.
The copy holds tracked files as they are now, uncommitted changes included.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from scorematrix.models import cache_folder

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = "lib/scorematrix"
LIMIT_SECONDS = 900
TOKEN = "SCOREMATRIX_MUTATIONS"  # in the environment of all that a test run starts, to end what it leaves behind


class Mutation(NamedTuple):
    """A fault. `old` occurs once in `file`, a path under lib/scorematrix; `tests` are arguments of pytest."""

    id: str
    file: str
    old: str
    new: str
    tests: str


MUTATIONS = [
    Mutation("pytorch-mask", "scoring/pytorch/portable.py",  # items see the items before them
             "return causal_tu & (same_tu | (segment_t == QUERY_SEGMENT)[None, :])", "return causal_tu",
             "tests/parity"),
    Mutation("jax-merge", "scoring/jax/attention.py",  # parts are merged with wrong weights
             "lse.append(top_m1[:, 0] + jnp.log(sums_me[:, h]))", "lse.append(jnp.log(sums_me[:, h]))",
             "tests/parity/test_parity.py"),
    Mutation("layout-positions", "scoring/shared_prefix.py",  # rotary positions are off by one
             "position_t[:n] = len(request.query_ids) +", "position_t[:n] = len(request.query_ids) - 1 +",
             "tests/scoring/test_shared_prefix.py"),
    Mutation("gguf-rotary", "models/gguf_reader.py",  # keys keep ggml's order of rotary pairs
             'hf_name.endswith(QUERY_KEY)', 'hf_name.endswith("q_proj.weight")', "tests/models"),
    Mutation("vocabulary", "workload/request.py",  # the first id beyond the vocabulary passes
             "if max(ids) >= vocab_size:", "if max(ids) > vocab_size:", "tests/workload"),
    Mutation("clock", "measure/clock.py",  # the clock does not wait for the scores
             "                end = time.perf_counter_ns()\n            call_ns",
             "                end = start + 1_000_000\n            call_ns",
             "tests/measure/test_measure.py"),
    Mutation("compiles", "matrix/cells.py",  # compiles in the timed window are not recorded
             "compiles_in_window=self._compiles,", "compiles_in_window=0,", "tests/faults/test_time_lies.py"),
    Mutation("caching-probe", "matrix/round.py",  # new queries are never tried, so a cache is never seen
             "caching = draft.planned.backend in SIDES", "caching = False",
             "tests/notebooks/test_real_run.py"),
    Mutation("plan-order", "matrix/plan.py",  # one side may go first in all pairs
             "order = before[::-1] if before else", "order = before if before else",
             "tests/matrix/test_plan.py"),
    Mutation("turn-order", "matrix/turns.py",  # drawn orders are not followed by their reverse
             "order = order[::-1] if (lap", "order = order if (lap",
             "tests/matrix/test_turns.py"),
    Mutation("retry-failed", "matrix/orchestrate.py",  # --retry-failed measures nothing again
             "    if retry_failed:\n", "    if False:\n", "tests/notebooks/test_faults.py"),
    Mutation("draft-forgotten", "matrix/draft.py",  # what a dead process measured is lost
             'self.cells = [cell for cell in earlier.cells if cell.status != "not_run"] if earlier else []',
             "self.cells = []", "tests/notebooks/test_kill.py"),
    Mutation("no-rename", "results/files.py",  # files are written in place, half of one may stay
             'handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")',
             "handle, temporary = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), str(path)", "tests/results"),
    Mutation("merge-params", "results/merge.py",  # runs of different params are merged
             'for field in ("workload_sha256", "params_sha256"):', 'for field in ("workload_sha256",):',
             "tests/results"),
    Mutation("skip-reason", "readiness/record.py",  # a missing package is reported as a missing device
             '"not_installed",\n            f"the package', '"no_device",\n            f"the package',
             "tests/readiness tests/notebooks/test_missing_framework.py"),
    Mutation("reference-gate", "compare/gates.py",  # scores far from the reference pass
             "detail = f\"largest difference {worst.max:.1e} of {side.caps.max:.0e} allowed, in {where}\"",
             "detail, passed = where, True", "tests/compare"),
    Mutation("drawn-logs", "compare/fresh.py",  # answers to other tokens pass where all probabilities are near 0
             ' and measured["mean_log"] <= LOGARITHMS', "", "tests/compare/test_fresh.py"),
    Mutation("sampled-tokens", "matrix/conductor.py",  # nobody is asked what the reference has scored
             "if slot.request in self._seeds else", "if False else", "tests/matrix/test_conductor.py"),
    Mutation("missing-time", "compare/turn_records.py",  # all times of a side may be shortened
             "    yield from _missing_time(taken)\n", "", "tests/results/test_tampering.py"),
    Mutation("missing-laps", "compare/turn_records.py",  # slow laps of a side may be deleted
             "    yield from _missing_laps(taken)\n", "", "tests/results/test_tampering.py"),
    Mutation("role-as-planned", "results/schema.py",  # a confirmation round may become a tuning round
             '("index", "role", "backend"', '("index", "backend"', "tests/results/test_tampering.py"),
    Mutation("old-comparison", "report/check.py",  # comparison.json may name another winner
             "if not _alike(its, ours):", "if False:", "tests/results/test_tampering.py"),
    Mutation("wrong-form", "scoring/forms.py",  # a kernel that computes something else may be chosen
             "<= APART:", "<= 1.0:", "tests/scoring/test_forms.py"),
    Mutation("margin", "compare/verdict.py",  # any difference beyond noise wins
             "math.log(interval.high), math.log1p(margin)\n", "math.log(interval.high), 0.0\n", "tests/compare"),
    Mutation("t-quantile", "compare/statistics.py",  # intervals are too narrow
             "(1 + confidence) / 2, n - 1)) * sd_log", "(1 + confidence) / 2, n)) * sd_log", "tests/compare"),
    Mutation("skip-notice", "report/markdown.py",  # report.md is silent about what was skipped
             'lines += [f"> **{safe(notice.text)}**\\n>" for notice in c.notices]', "",
             "tests/report/test_summaries.py"),
    Mutation("page-policy", "report/template/index.html.j2",  # the report may load from elsewhere and run scripts
             "Content-Security-Policy", "no-policy", "tests/report/test_browser.py"),
    Mutation("gpu-room", "matrix/together.py",  # processes share a GPU that has no room for all of them
             "len(needs) > 1 and sum(needs) > where.device_bytes", "False", "tests/matrix/test_plan.py"),
    Mutation("one-reference", "matrix/plan.py",  # no CPU computes the reference of a missing device
             '[target, "cpu"] if target != "cpu" and', '[target] if target != "cpu" and',
             "tests/results/test_merge.py"),
    Mutation("polling-server", "matrix/together.py",  # a server that polls takes turns and disturbs those of the others
             "if sum(shares.values()) <= params.disturbed_share:", "if True:", "tests/matrix/test_plan.py"),
    Mutation("redaction", "notebooks.py",  # executed notebooks keep paths and secrets
             "            _redact(draft)\n", "", "tests/test_privacy.py"),
    Mutation("body-limit", "servers/serve/app.py",  # a body without a length is read without end
             "if size > limits.max_body_bytes:", "if False:", "tests/servers/serve/test_server.py"),
    Mutation("load-latency", "servers/load/generator.py",  # latency counts from sending, not from when it was due
             "book.enter(number, scheduled, sent)", "book.enter(number, sent, sent)",
             "tests/servers/load/test_open_loop.py"),
    Mutation("exit-code", "cli/runs.py",  # a failed gate ends with 0
             "for contrast in comparison.contrasts):\n        raise typer.Exit(GATE_FAILED)",
             "for contrast in comparison.contrasts):\n        raise typer.Exit(0)", "tests/test_cli.py"),
    Mutation("lost-node", "cluster/fleet.py",  # a round that was lost with its node does not say so
             '{"lost": list(lost),', '{"lost": [],', "tests/cluster/test_ray.py"),
]  # fmt: skip


def check_table(mutations: list[Mutation]) -> None:
    """Refuse a table whose texts do not occur exactly once."""
    for one in mutations:
        if (count := (ROOT / LIBRARY / one.file).read_text().count(one.old)) != 1:
            print(f"{one.id}: {LIBRARY}/{one.file} holds {count} times, not once: {one.old!r}")
            sys.exit(2)


def copy_checkout(folder: Path) -> Path:
    """Clone this checkout with its uncommitted changes."""
    changes = subprocess.check_output(["git", "-C", ROOT, "stash", "create"], text=True).strip()
    subprocess.run(["git", "clone", "-q", "--shared", ROOT, folder], check=True)
    subprocess.run(["git", "-C", folder, "checkout", "-q", "--detach", changes or "HEAD"], check=True)
    return folder


def new_cache(parent: Path) -> Path:
    """Make a cache that holds the fetched models only: what a faulty library keeps must reach nobody else."""
    folder = Path(tempfile.mkdtemp(dir=parent))
    if (models := cache_folder() / "models").is_dir():
        (folder / "models").symlink_to(models)
    return folder


def run_tests(copy: Path, tests: str, marker: str | None, cache: Path) -> tuple[int | None, float, str]:
    """Run tests on the copy until one fails: exit code (None past the limit), seconds, the first failing test."""
    token = secrets.token_hex(8)
    environment = os.environ | {"PYTHONPATH": str(copy / "lib"), "SCOREMATRIX_CACHE": str(cache), TOKEN: token}
    command = [sys.executable, "-m", "pytest", *shlex.split(tests), "-x", "-q", "-p", "no:cacheprovider"]
    command += [f"--basetemp={copy.parent / 't'}", *(["-m", marker] if marker else [])]
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        try:
            code = subprocess.call(command, cwd=copy, env=environment, stdout=output, timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        seconds = time.monotonic() - start
        end_leftovers(token)
        output.seek(0)
        failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", output.read(), re.MULTILINE)
    return code, seconds, failed[1] if failed else {None: "over the time limit", 5: "no test was run"}.get(code, "")


def end_leftovers(token: str) -> None:
    """End what a test run has left, stopped processes included."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(TOKEN) == token:
                process.kill()
        except (psutil.Error, OSError):
            continue


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="ID", choices=[one.id for one in MUTATIONS])
    parser.add_argument("--marker", help="which tests may notice, as for pytest -m")
    parser.add_argument("--check", action="store_true", help="first see that the tests pass without a fault")
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    options = parser.parse_args()
    chosen = [one for one in MUTATIONS if not options.only or one.id in options.only]
    check_table(chosen)
    results = []
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        copy, cache = copy_checkout(Path(folder) / "copy"), new_cache(Path(folder))
        for tests in dict.fromkeys(one.tests for one in chosen) if options.check else []:
            code, seconds, failed = run_tests(copy, tests, options.marker, cache)
            print(f"{'sound' if code == 0 else 'BROKEN'}  {tests}  {seconds:.0f} s  {failed}", flush=True)
            if code != 0:
                return 2
        for one in chosen:
            path = copy / LIBRARY / one.file
            sound = path.read_text()
            path.write_text(sound.replace(one.old, one.new))
            own = new_cache(Path(folder)) if one.file.startswith("models/") else cache
            code, seconds, failed = run_tests(copy, one.tests, options.marker, own)
            path.write_text(sound)
            print(f"{'caught' if code == 1 else 'MISSED'}  {one.id}  {seconds:.0f} s  {failed}", flush=True)
            found = {"caught": code == 1, "seconds": round(seconds, 1), "first_failing": failed, "exit_code": code}
            results.append({"id": one.id, "file": one.file, "tests": one.tests} | found)
            if options.out:
                options.out.write_text(json.dumps(results, indent=1) + "\n")
    n_caught = sum(result["caught"] for result in results)
    print(f"{n_caught} of {len(results)} faults were caught")
    return 0 if n_caught == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
