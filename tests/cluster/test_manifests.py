"""The manifests are RayJobs by KubeRay's own schema, and what they ask for is what the library looks for."""

from __future__ import annotations

import copy
import json
import re
import shlex
from itertools import pairwise
from pathlib import Path

import jsonschema
import pytest
import yaml

from scorematrix.cluster import Node, nodes_for
from scorematrix.matrix import load_params, plan_rounds
from scorematrix.readiness import target
from scorematrix.results.status import one_reference
from tests.conftest import FIXTURES, ROOT
from tests.test_layout import pins

MANIFESTS = sorted((ROOT / "params" / "cluster").glob("*.yaml"))
CHIPS = {"google.com/tpu": "TPU", "nvidia.com/gpu": "GPU"}


def strict(schema: object) -> object:
    """The schema with unknown fields refused: Kubernetes itself drops a misspelt one without a word."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        found["additionalProperties"] = False
    return found


def problems(manifest: dict) -> list[str]:
    schema = strict(json.loads((FIXTURES / "kuberay_rayjob_v1.json").read_text())["schema"])
    manifest = {key: value for key, value in manifest.items() if key != "metadata"}  # Kubernetes' own
    return [error.message for error in jsonschema.Draft4Validator(schema).iter_errors(manifest)]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.stem)
def test_it_is_a_rayjob(path: Path) -> None:
    assert problems(yaml.safe_load(path.read_text())) == []


FAULTS = {
    # where, what: every one of them must be found
    "a misspelt field": (("spec", "backofLimit"), 3),
    "a number as text": (("spec", "backoffLimit"), "three"),
    "a misspelt selector": (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "nodeselector"), {}),
    "start parameters that are no text": (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams"), {"a": 0}),
    "no head": (("spec", "rayClusterSpec"), {"rayVersion": "2.60.0"}),
    "a group without a name": (("spec", "rayClusterSpec", "workerGroupSpecs"), [{"template": {}}]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_schema_finds_faults(fault: str) -> None:
    (*way, last), value = FAULTS[fault]
    manifest = copy.deepcopy(yaml.safe_load(MANIFESTS[0].read_text()))
    part = manifest
    for key in way:
        part = part[key]
    part[last] = value
    assert problems(manifest)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.stem)
def test_its_nodes_serve_the_targets_of_its_params(path: Path) -> None:
    spec = yaml.safe_load(path.read_text())["spec"]
    command, *words = shlex.split(spec["entrypoint"])
    params = load_params(ROOT / words[1])
    assert (command, words[0]) == ("scorematrix", "run") and ("--on", "ray") in pairwise(words)
    cluster = spec["rayClusterSpec"]
    assert cluster["rayVersion"] == pins()["ray"] and f"ray:{pins()['ray']}" in (path.parent / "README.md").read_text()
    head = cluster["headGroupSpec"]["rayStartParams"]
    nodes = [Node("head", {"CPU": float(head["num-cpus"])})]
    for group in cluster["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        limits = container["resources"]["limits"]
        assert limits == container["resources"]["requests"], "a pod that may be throttled measures nothing"
        declared = json.loads(json.loads(group["rayStartParams"].get("resources", '"{}"')))
        chips = {name: float(limits[key]) for key, name in CHIPS.items() if key in limits}
        nodes.append(Node(group["groupName"], {"CPU": float(limits["cpu"]), **chips, **declared}))
        assert re.fullmatch(r"\d+Gi", limits["memory"])
    for name in {planned.target for planned in one_reference(plan_rounds(params), ())}:
        assert [node.id for node in nodes_for(nodes, target(name))] == [name]
