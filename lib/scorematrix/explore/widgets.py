"""Forms of the explore notebook (ipywidgets): score what you type, and look into any recorded run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
) -> widgets.VBox:
    """Return a form with query, items, labels and view; its button scores them with every installed framework."""
    boxes = {
        "query": widgets.Textarea(query, description="query", rows=6, layout=WIDE),
        "items": widgets.Textarea("\n---\n".join(items), description="items", rows=8, layout=WIDE),
        "labels": widgets.Text("|".join(labels), description="labels", layout=WIDE),
        "view": widgets.Dropdown(options=["portable", "best_native"], value=view, description="view"),
    }
    button, output = widgets.Button(description="Score", button_style="primary"), widgets.Output()

    def score(_: object) -> None:
        typed_items, typed_labels = boxes["items"].value.split("\n---\n"), boxes["labels"].value.split("|")
        with _answers_in(button, output):
            loaded = load_model(model)
            request = score_request_from_text(loaded.tokenizer, boxes["query"].value, typed_items, typed_labels)
            display(compare_backends(loaded, request, typed_items, typed_labels, boxes["view"].value, scorers, print))

    button.on_click(score)
    help_ = widgets.HTML("Items are separated by a line of three hyphens, labels by a bar.")
    return widgets.VBox([*boxes.values(), help_, button, output])


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


@contextmanager
def _answers_in(button: widgets.Button, output: widgets.Output) -> Iterator[None]:
    """Run a block with its output in a widget and the button disabled; print a line for bad input."""
    button.disabled = True
    output.clear_output()
    try:
        with output:
            try:
                yield
            except ValueError as error:
                print(f"Error: {error}")
    finally:
        button.disabled = False
