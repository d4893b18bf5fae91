"""What the plots say: no two sides alike, every verdict in its word, nothing drawn that is not known."""

from __future__ import annotations

import itertools
import re

import pytest
from matplotlib.figure import Figure

from scorematrix import plots
from scorematrix.analysis import Run
from scorematrix.analysis.style import by_side, figure_svg
from tests.factory import changed, make_params, make_run

BACKENDS = [
    {"backend": "jax", "views": ["portable", "best_native"]},
    {"backend": "pytorch", "views": ["portable", "best_native"]},
    {"backend": "transformers", "views": ["packed", "expanded_cache"]},
    {"backend": "llama-cpp", "views": ["shared_prefix"]},
    {"backend": "vllm-cpu", "views": ["prefix_cache"]},
]


@pytest.fixture(scope="module")
def run() -> Run:
    return Run(*make_run(seconds=lambda b, i, c: (2.0 + 4.0 / c) * (1.3 if b == "jax" else 1.0)))


def every_plot(run: Run) -> dict[str, Figure]:
    cells, requests = run.cells(), run.requests()
    return {
        "speed_ratios": plots.speed_ratios(run.verdicts()),
        "throughput": plots.throughput(run.rates()),
        "heatmap": plots.heatmap(cells),
        "matched": plots.matched(run.matched()),
        "latency_throughput": plots.latency_throughput(cells),
        "latency": plots.latency(requests),
        "roofline": plots.roofline(cells, run.sides()),
        "startup": plots.startup(run.startup()),
        "accuracy": plots.accuracy(run.last_scores()),
        "sequence": plots.sequence(requests),
        "samples": plots.samples(run.calls()),
    }


def words_of(figure: Figure) -> list[str]:
    return re.findall(r">([^<>]+)</text>", figure_svg(figure))


def test_no_two_sides_look_alike() -> None:
    params = make_params(backends=BACKENDS, comparisons=[{"jax": "cpu", "pytorch": "cpu"}])
    found = [tuple(style.items()) for _, style, _ in by_side(Run(*make_run(params)).sides())]
    assert len(found) == 8 and len(set(found)) == 8


def test_every_plot_is_public_and_says_what_it_shows(run: Run) -> None:
    shown = every_plot(run)
    assert set(shown) == set(plots.__all__) - {"geometric_mean", "palette", "t_interval", "use_style"}
    for name, figure in shown.items():
        svg = figure_svg(figure)
        title, words = re.search(r"<title[^>]*>([^<]*)</title><desc[^>]*>([^<]*)</desc>", svg).groups()
        assert title and words and "not available" not in words.lower(), name
        assert 'role="img"' in svg and "xlink" not in svg and "<metadata" not in svg
    ids = [one for figure in shown.values() for one in re.findall(r'\bid="([^"]+)"', figure_svg(figure))]
    assert len(ids) == len(set(ids)), "ids are unique over all figures"


def test_every_verdict_stands_in_the_forest_and_only_known_effects_are_drawn(run: Run) -> None:
    figure = plots.speed_ratios(run.verdicts())
    svg, words = figure_svg(figure), words_of(figure)
    assert re.search(r"CPU, portable[^<]*PYTORCH[^<]*0\.769", svg)
    assert re.search(r"GPU G4, RTX PRO 6000, portable[^<]*DEFERRED", svg)
    assert {"JAX", "PYTORCH", "TIE", "UNDECIDED", "DEFERRED"} & set(words) == {"PYTORCH", "DEFERRED"}
    assert svg.count("<pattern") == 1


def test_points_tell_their_values_to_a_pointer(run: Run) -> None:
    for name in ("speed_ratios", "throughput", "matched", "roofline"):
        assert re.search(r"<g><title>[^<]*\d[^<]*</title>", figure_svg(every_plot(run)[name])), name
    assert "tip:" not in "".join(map(figure_svg, every_plot(run).values()))


def test_ticks_of_a_wide_forest_do_not_touch() -> None:
    for factor in (1.02, 1.5, 3.0, 40.0):
        verdicts = Run(*make_run(seconds=lambda b, i, c: 2.0 * (factor if b == "jax" else 1.0))).verdicts()  # noqa: B023
        figure = plots.speed_ratios(verdicts)
        figure.canvas.draw()
        boxes = [t.get_window_extent() for t in figure.axes[0].get_xticklabels() if t.get_text()]
        inside = [
            box for box in boxes if figure.axes[0].bbox.x0 - 1 <= (box.x0 + box.x1) / 2 <= figure.axes[0].bbox.x1 + 1
        ]
        assert len(inside) >= 3, factor
        assert all(a.x1 < b.x0 for a, b in itertools.pairwise(inside)), factor


def test_every_cell_is_in_the_heatmap_or_says_why_not() -> None:
    def edit(r):
        cells = [c.model_dump() | {"status": "failed", "error": "boom", "scores": [], "call_ns": []}
                 if c.chunk_size == 4 and r.backend == "jax" else c.model_dump() for c in r.cells]  # fmt: skip
        return changed(r, cells=cells)

    words = words_of(plots.heatmap(Run(*make_run(edit=edit)).cells()))
    assert words.count("INVALID") == 1, "JAX at 4 items a call"
    assert words.count("SKIPPED") == 2, "JAX on the TPU, PyTorch on the GPU"
    assert sum("★" in word for word in words) == 2 and {"4", "8"} <= set(words)


def test_one_chunk_size_is_no_curve() -> None:
    run = Run(*make_run(make_params(chunk_sizes=[4], comparisons=[{"jax": "cpu", "pytorch": "cpu"}])))
    figure = plots.throughput(run.rates())
    assert figure.axes[0].get_xlabel() == "items/s at chunk size 4"


def test_a_run_without_a_figure_says_so_everywhere() -> None:
    for name, figure in every_plot(Run(*make_run(keep=lambda p: False))).items():
        svg = figure_svg(figure)
        if name == "speed_ratios":
            assert svg.count("UNDECIDED") or svg.count("DEFERRED")
        else:
            assert "not available" in svg.lower() or "no round yet" in svg, name


def test_the_roofline_stands_on_measured_ceilings(run: Run) -> None:
    side = run.sides().set_index("side").loc["jax portable on cpu"]
    cell = run.cells().query("side == 'jax portable on cpu' and chunk_size == 8").iloc[0]
    # 100 tokens a pass of 2 calls (one a request), float32: 2 operations a token and weight of 4 bytes.
    assert cell["flop_per_weight_byte"] == pytest.approx(2 * 100 / 2 / 4)
    assert cell["gflop_per_second"] < side["matmul_gflop_per_second"] == 1.0
    blind = Run(*make_run(edit=lambda r: changed(r, ceilings=None)))
    assert "not available" in figure_svg(plots.roofline(blind.cells(), blind.sides()))
