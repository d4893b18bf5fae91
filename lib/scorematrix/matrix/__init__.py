"""Params, plan and rounds of a run folder. The orchestrating process imports no framework."""

from scorematrix.matrix.compiled import compile_cells
from scorematrix.matrix.orchestrate import Choice, fill_run, prepare_here, prepare_run, run_folder, scratch_run
from scorematrix.matrix.params import Params, load_params, read_assignments
from scorematrix.matrix.plan import chunk_order, needed_targets, plan_rounds
from scorematrix.matrix.preflight import preflight_readiness, unfit_cells, validate_path
from scorematrix.matrix.round import RoundInSteps, run_round

__all__ = [
    "Choice",
    "Params",
    "RoundInSteps",
    "chunk_order",
    "compile_cells",
    "fill_run",
    "load_params",
    "needed_targets",
    "plan_rounds",
    "preflight_readiness",
    "prepare_here",
    "prepare_run",
    "read_assignments",
    "run_folder",
    "run_round",
    "scratch_run",
    "unfit_cells",
    "validate_path",
]
