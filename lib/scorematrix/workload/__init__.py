"""Requests and workloads: token ids in, token ids out."""

from scorematrix.workload.canonical import CONTRACT_LABEL_IDS, canonical_workload
from scorematrix.workload.datasets import read_examples, text_workload
from scorematrix.workload.fromtext import score_request_from_text
from scorematrix.workload.request import ScoreRequest
from scorematrix.workload.workload import Workload, WorkloadRequest

__all__ = [
    "CONTRACT_LABEL_IDS",
    "ScoreRequest",
    "Workload",
    "WorkloadRequest",
    "canonical_workload",
    "read_examples",
    "score_request_from_text",
    "text_workload",
]
