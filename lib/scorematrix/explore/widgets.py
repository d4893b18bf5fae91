"""Forms of the explore notebook (ipywidgets): score what you type, and look into any recorded run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets as widgets
from IPython.display import display

from scorematrix import plots
from scorematrix.analysis import Run, open_run
from scorematrix.explore.own import compare_backends
from scorematrix.explore.recorded import cell_calls
from scorematrix.models import load_model
from scorematrix.results import OUTPUTS, newest_runs
from scorematrix.workload import score_request_from_text

WIDE = widgets.Layout(width="46rem")


def score_form(
    model: str, query: str, items: Sequence[str], labels: Sequence[str], view: str, scorers: Mapping[str, Any]
) -> widgets.interactive:
    """Return a form with query, items, labels and view; its button scores them with every installed framework.

    Items are separated by a line of three hyphens, labels by a bar. Bad input becomes a line in the form's output.
    """

    def score(query: str, items: str, labels: str, view: str) -> None:
        typed_items, typed_labels = items.split("\n---\n"), labels.split("|")
        try:
            loaded = load_model(model)
            request = score_request_from_text(loaded.tokenizer, query, typed_items, typed_labels)
            display(compare_backends(loaded, request, typed_items, typed_labels, view, scorers, print))
        except ValueError as error:
            print(f"Error: {error}")

    return widgets.interactive(
        score,
        {"manual": True, "manual_name": "Score"},
        query=widgets.Textarea(query, rows=6, layout=WIDE),
        items=widgets.Textarea("\n---\n".join(items), rows=8, layout=WIDE),
        labels=widgets.Text("|".join(labels), layout=WIDE),
        view=widgets.Dropdown(options=["portable", "best_native"], value=view),
    )


def browse_runs(run: Run) -> widgets.VBox:
    """Return menus for run, side and chunk size, and a plot of every call of that cell."""
    known = {store.folder.name: str(store.folder) for store in newest_runs(OUTPUTS)}
    known |= {path.parent.name: str(path.parent) for path in sorted(OUTPUTS.glob("reference/*/run.json"))}
    if run.store is not None:
        known.setdefault(run.store.folder.name, str(run.store.folder))
    opened = {} if run.store is None else {str(run.store.folder): run}
    runs = widgets.Dropdown(options=tuple(known.items()), description="run", layout=WIDE)
    if run.store is not None:
        runs.value = known[run.store.folder.name]
    sides, sizes = widgets.Dropdown(description="side", layout=WIDE), widgets.Dropdown(description="chunk size")
    output = widgets.Output()

    def current() -> Run:
        folder = str(runs.value)
        if folder not in opened:
            opened[folder] = open_run(folder)
        return opened[folder]

    def show_sides(_: object = None) -> None:
        cells = current().cells().query("status == 'ok'")
        sides.options = list(dict.fromkeys(cells["side"]))
        sides.value = sides.options[0] if sides.options else None
        show_sizes()

    def show_sizes(_: object = None) -> None:
        cells = current().cells().query("status == 'ok'")
        cells = cells[cells["side"].eq(str(sides.value))]
        sizes.options = [int(size) for size in cells["chunk_size"]]
        chosen = [int(size) for size in cells.loc[cells["chosen"], "chunk_size"]]
        sizes.value = next(iter([*chosen, *sizes.options]), None)
        show()

    def show(_: object = None) -> None:
        output.clear_output(wait=True)
        with output:
            if sizes.value is None:
                print("No cell of this run is measured yet.")
            else:
                display(plots.samples(cell_calls(current(), str(sides.value), sizes.value)))

    for menu, change in ((runs, show_sides), (sides, show_sizes), (sizes, show)):
        menu.observe(change, "value")
    show_sides()
    return widgets.VBox([runs, sides, sizes, output])
