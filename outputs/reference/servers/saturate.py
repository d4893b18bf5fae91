"""Ten minutes at saturation: `scorematrix serve` with bad requests mixed in, its memory watched from outside.

    python outputs/reference/servers/saturate.py [--seconds 600] [--backend noop] [--model random:tiny-qwen3]

More callers than may wait in line ask without a pause, every tenth request is bad. Writes `saturate-BACKEND.json`
beside this file: the load record, and the server's resident bytes over time. Ends with 1 where the server crashed, a
good request was neither answered nor refused with a Retry-After, a bad one was not refused, anything came back twice,
or memory grew by more than 5 % after the first minute.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

from scorematrix.compare.load import load_sentence
from scorematrix.measure import describe_environment
from scorematrix.servers.load import Plan, measure_load
from scorematrix.workload import canonical_workload

HERE = Path(__file__).parent
CONCURRENCY, BAD_EVERY, MOST_GROWTH, SETTLING_SECONDS = 80, 10, 0.05, 60.0


def main() -> int:
    """Run, write, judge."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--backend", default="noop")
    parser.add_argument("--model", default="random:tiny-qwen3")
    chosen = parser.parse_args()
    command = [sys.executable, "-m", "scorematrix", "serve", "--backend", chosen.backend, "--model", chosen.model,
               "--port", "0"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = re.search(r"http://\S+:\d+", server.stdout.readline()).group()
            print(f"{url}: {CONCURRENCY} callers, every {BAD_EVERY}th request bad, {chosen.seconds:g} s", flush=True)
            memory = _watched(psutil.Process(server.pid))
            record = measure_load(
                url,
                canonical_workload(vocab_size=256, query_tokens=20, n_items=10, item_tokens=3, label_ids=[3, 4],
                                   n_queries=16),
                concurrency=[CONCURRENCY],
                rates=[],
                plan=Plan(5.0, chosen.seconds, max(6, int(chosen.seconds / 60))),
                bad_every=BAD_EVERY,
                environment=describe_environment(),
            )  # fmt: skip
            survived = server.poll() is None
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(90)
    (point,) = record.points
    settled = [n for at, n in memory if at >= min(SETTLING_SECONDS, chosen.seconds / 3)]
    growth = settled[-1] / settled[0] - 1
    totals = point.totals
    sound = {
        "the server outlived it": survived and server.returncode == 0,
        "every request answered, refused or rejected": not totals.failed and not point.warmup.failed,
        "nothing answered twice": point.surplus == 0,
        f"memory grew by {growth:+.1%}, at most {MOST_GROWTH:.0%}": growth <= MOST_GROWTH,
    }
    found = {"growth": growth, "rss_bytes": memory, "sound": sound, "load": record.model_dump(mode="json")}
    (HERE / f"saturate-{chosen.backend}.json").write_text(json.dumps(found) + "\n")
    print(load_sentence(record))
    print(
        f"{totals.offered:,} = {totals.answered:,} answered + {totals.refused:,} refused + {totals.rejected:,} rejected"
    )
    for name, holds in sound.items():
        print(f"{'yes' if holds else 'NO'}: {name}")
    return 0 if all(sound.values()) else 1


def _watched(process: psutil.Process) -> list[tuple[float, int]]:
    """Seconds and resident bytes, every few seconds until the process ends."""
    start, found = time.monotonic(), []

    def watch() -> None:
        while True:
            try:
                found.append((round(time.monotonic() - start, 1), process.memory_info().rss))
            except psutil.Error:
                return
            time.sleep(5)

    threading.Thread(target=watch, daemon=True).start()
    return found


if __name__ == "__main__":
    sys.exit(main())
