"""The gallery: the report of every recorded run here, and its picture, made anew from the rounds.

    python outputs/reference/gallery.py                      every recorded run
    python outputs/reference/gallery.py NAME ...             these
    python outputs/reference/gallery.py NAME --take RUN      record the run of the folder RUN under this name first

Writes comparison.json, the report (report-PARTIAL where something is missing) and report.png into a run's folder, and
the README's picture, report.png beside this file, from the first of FOR_README that is recorded. Needs Chromium on
PATH. Nothing is measured.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from scorematrix.compare import compare_run
from scorematrix.report import write_report
from scorematrix.results import RunStore, find_run

HERE = Path(__file__).parent
FOR_README = ("quick", "bench-s-f32")
WIDTH, MOST = 1000, 1900
# The picture ends with the speed ratios: at the heading after them.
END = """() => { const heads = [...document.querySelectorAll('h2')];
  const at = heads.findIndex(head => head.id === 'who-is-faster');
  return heads[at + 1]?.getBoundingClientRect().top ?? document.body.scrollHeight }"""


def main(names: list[str], taken: str | None) -> None:
    """Render these runs, all recorded ones where none is named."""
    if taken is not None:
        if len(names) != 1:
            raise ValueError(f"--take {taken}: give exactly one NAME to record it under, not {len(names)}")
        record(find_run(taken), HERE / names[0])
    recorded = sorted(path.parent.name for path in HERE.glob("*/run.json"))
    if strange := set(names) - set(recorded):
        raise ValueError(f"NAME={', '.join(sorted(strange))}: not recorded here; recorded: {', '.join(recorded)}")
    for name in names or recorded:
        print(f"{name}: report and picture", flush=True)
        render(HERE / name)
    shown = next(name for name in FOR_README if (HERE / name / "report.png").is_file())
    shutil.copyfile(HERE / shown / "report.png", HERE / "report.png")
    print(f"the README's picture is that of {shown}")


def record(run: RunStore, folder: Path) -> None:
    """Keep a run's documents; executed notebooks and reports stay behind."""
    if folder.exists():
        raise ValueError(f"NAME={folder.name}: is recorded already; delete {folder} to take another run in its place")
    rounds = run.rounds()  # refused here where it is damaged
    print(f"{folder.name}: taking in {len(rounds)} rounds of {run.folder}")
    shutil.copytree(
        run.folder, folder, ignore=shutil.ignore_patterns("notebooks", "drafts", "servers", "report*", ".*")
    )


def render(folder: Path) -> None:
    """The report as any user gets it, in a copy: what is recorded is only added to."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = RunStore(shutil.copytree(folder, Path(scratch) / folder.name))
        judged = compare_run(copy.manifest(), copy.workload(), copy.readiness(), copy.rounds())
        written = write_report(copy, judged)
        for path in folder.glob("report*"):  # a run that was PARTIAL may be no longer
            path.unlink()
        for path in written:
            shutil.copyfile(path, folder / path.name)
    (folder / "report.png").write_bytes(picture(next(folder.glob("report*.html"))))


def picture(report: Path) -> bytes:
    """The top of a report, down to the end of its speed ratios."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport={"width": WIDTH, "height": 800})
        page.goto(report.resolve().as_uri())
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": min(page.evaluate(END), MOST)}
        return page.screenshot(full_page=True, clip=clip)


if __name__ == "__main__":
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("names", nargs="*", metavar="NAME")
    reader.add_argument("--take", metavar="RUN")
    given = reader.parse_args()
    if shutil.which("chromium") is None:
        sys.exit("gallery.py: no chromium on PATH; on Debian: apt-get install chromium")
    try:
        main(given.names, given.take)
    except ValueError as error:
        sys.exit(f"gallery.py: {error}")
