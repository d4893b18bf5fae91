"""Every known refusal is understood, however it is wrapped."""

from __future__ import annotations

import json

import pytest

from scorematrix.readiness.cloud_errors import Refusal, classify

TPU_QUOTA = "Quota limit 'TPUV6EPerProjectPerZoneForTPUAPI' has been exceeded. Limit: 0 in zone us-east5-b."
TEXTS: list[tuple[str, str, str, str]] = [
    # text, kind, reason, next try
    ("Quota 'GPUS_PER_GPU_FAMILY' exceeded.  Limit: 0.0 in region us-central1.",
     "quota_region", "quota", "another_region"),
    ("Quota 'NVIDIA_RTX_PRO_6000' exceeded", "quota_region", "quota", "another_region"),
    ("code: QUOTA_EXCEEDED", "quota_region", "quota", "another_region"),
    ("Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 1.0 globally.", "quota_global", "quota", "never"),
    (TPU_QUOTA, "quota_tpu", "quota", "another_zone"),
    ("Quota 'TPUV6EPreemptiblePerProjectPerZoneForTPUAPI' exhausted. Limit 32 in zone europe-west4-a",
     "quota_tpu", "quota", "another_zone"),
    ("ZONE_RESOURCE_POOL_EXHAUSTED", "capacity_vm", "capacity", "another_zone"),
    ("code: ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "capacity_vm", "capacity", "another_zone"),
    ("The zone 'projects/p/zones/us-central1-b' does not have enough resources available to fulfill the request.",
     "capacity_vm", "capacity", "another_zone"),
    ("GCE_STOCKOUT", "capacity_vm", "capacity", "another_zone"),
    ("state:STOCKOUT", "capacity_vm", "capacity", "another_zone"),
    ('{"code": 8, "message": "There is no more capacity in the zone \\"us-east5-b\\"; you can try in another zone"}',
     "capacity_tpu", "capacity", "another_zone"),
    ("RESOURCE_EXHAUSTED", "capacity_tpu", "capacity", "another_zone"),
    ('"code": 9', "reservation", "capacity", "another_zone"),
    ("Insufficient reserved capacity. Contact customer support", "reservation", "capacity", "another_zone"),
    ("Node could not be created while in state PREEMPTED", "preempted", "capacity", "same_zone"),
    ('accelerator type "v6e-1", could not be found in the zonal accelerator configurations for "asia-east1-a"',
     "unsupported", "unsupported", "another_zone"),
    ("Machine type with name 'g4-standard-48' does not exist in zone 'us-west1-c'.",
     "unsupported", "unsupported", "another_zone"),
    ("FLEX_START provisioning model is not supported", "unsupported", "unsupported", "another_zone"),
    ("reason: IAM_PERMISSION_DENIED", "permission", "permission", "never"),
    ("Resource 'projects/p' is not found or access is unauthorized.", "permission", "permission", "never"),
    ("Internal error encountered. Please try again later.", "unknown", "unknown", "another_zone"),
    ("", "unknown", "unknown", "another_zone"),
]  # fmt: skip
WRAPPINGS = {
    "as it is": lambda t: t,
    "lower case": str.lower,
    "upper case": str.upper,
    "spaced": lambda t: t.replace(" ", "   "),
    "broken into lines": lambda t: t.replace(" ", "\n  "),
    "in JSON": lambda t: json.dumps({"error": {"code": 3, "message": t, "status": "INVALID_ARGUMENT"}}),
    "in JSON in JSON": lambda t: json.dumps({"body": json.dumps({"message": f"line one\n{t}"})}),
    "after gcloud's words": lambda t: f"ERROR: (gcloud.compute.instances.create) Could not fetch resource:\n - {t}\n",
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize(("text", "kind", "reason", "next_try"), TEXTS, ids=lambda v: str(v)[:30])
def test_refusals_are_understood(text: str, kind: str, reason: str, next_try: str, wrapping: str) -> None:
    found = classify(WRAPPINGS[wrapping](text))
    assert (found.kind, found.reason, found.next_try) == (kind, reason, next_try)


def test_quota_is_looked_for_before_stock_out() -> None:
    found = classify("RESOURCE_EXHAUSTED: Quota 'NVIDIA_RTX_PRO_6000' exceeded. Limit: 0.0 in region us-central1.")
    assert found == Refusal(
        "quota_region", "quota", "another_region", quota="nvidia_rtx_pro_6000", limit=0.0, where="us-central1"
    )


def test_names_and_limits_are_read() -> None:
    assert classify(TPU_QUOTA).limit == 0 and classify(TPU_QUOTA).where == "us-east5-b"
    assert classify(TEXTS[5][0]).limit == 32 and classify(TEXTS[5][0]).where == "europe-west4-a"
    assert classify(TEXTS[3][0]).quota == "gpus_all_regions" and classify(TEXTS[3][0]).limit == 1.0
    assert classify("out of stock").limit is None
