"""Cuts KubeRay's schema of a RayJob down to the parts that params/cluster/ uses, so that it can lie here as a fixture.

    python tests/cluster/trim_crd.py ray.io_rayjobs.yaml

The file is helm-chart/kuberay-operator/crds/ray.io_rayjobs.yaml of github.com/ray-project/kuberay, Apache-2.0, at
COMMIT. What is cut off is unknown to the test, which then refuses it: cut anew before use.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml

FIXTURE = Path(__file__).parents[1] / "fixtures" / "kuberay_rayjob_v1.json"
COMMIT = "feeaf72facab4881ba2b179248bb67315634e229"
KEPT = {
    "spec": {"activeDeadlineSeconds", "backoffLimit", "entrypoint", "rayClusterSpec", "shutdownAfterJobFinishes",
             "submissionMode", "ttlSecondsAfterFinished"},
    "rayClusterSpec": {"headGroupSpec", "rayVersion", "workerGroupSpecs"},
    "headGroupSpec": {"rayStartParams", "template"},
    "workerGroupSpecs": {"groupName", "maxReplicas", "minReplicas", "numOfHosts", "rayStartParams", "replicas",
                         "template"},
    "template": {"metadata", "spec"},
    "pod": {"containers", "nodeSelector", "serviceAccountName", "tolerations"},
    "containers": {"env", "image", "name", "ports", "resources"},
    "env": {"name", "value"},
}  # fmt: skip


def trim(schema: dict, name: str) -> dict:
    """The schema without what is not kept; below a part that has no list of its own, everything stays."""
    schema = {key: value for key, value in schema.items() if key != "description"}
    if "items" in schema:
        return schema | {"items": trim(schema["items"], name)}
    if "properties" in schema:
        kept = KEPT.get(name, schema["properties"].keys())
        inner = {
            key: trim(value, "pod" if (name, key) == ("template", "spec") else key)
            for key, value in schema["properties"].items()
            if key in kept
        }
        return schema | {"properties": inner}
    return schema


if __name__ == "__main__":
    crd = yaml.load(Path(sys.argv[1]).read_text(), yaml.CSafeLoader)
    (version,) = (v for v in crd["spec"]["versions"] if v["name"] == "v1")
    whole = version["schema"]["openAPIV3Schema"]
    whole["properties"].pop("status")
    source = (
        f"github.com/ray-project/kuberay {COMMIT}, helm-chart/kuberay-operator/crds/ray.io_rayjobs.yaml, Apache-2.0"
    )
    document = {"source": source, "schema": trim(whole, "root")}
    FIXTURE.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
