"""Classify a cloud's refusal by its text: quota, capacity, permission, and where to try next.

Texts and classes: the errors of Compute Engine and Cloud TPU as users report them. The message decides, not the code,
because code 3 and RESOURCE_EXHAUSTED have several meanings. Quota is matched before stock-out, because a quota of zero
is often worded as exhaustion too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from scorematrix.results.target_records import SkipReason

RefusalKind = Literal[
    "quota_region",
    "quota_global",
    "quota_tpu",
    "capacity_vm",
    "capacity_tpu",
    "reservation",
    "preempted",
    "unsupported",
    "permission",
    "unknown",
]
NextTry = Literal["another_region", "another_zone", "same_zone", "never"]


@dataclass(frozen=True)
class Refusal:
    """A classified refusal.

    Attributes:
        reason: reason of the skip that it leads to.
        next_try: where another attempt may succeed; `never`: nowhere, until somebody changes something.
        quota: the quota's name, if the text has one.
        limit: the quota's limit, if the text has one. Retrying never clears a limit of 0.
        where: the zone or region that the text names.
    """

    kind: RefusalKind
    reason: SkipReason
    next_try: NextTry
    quota: str | None = None
    limit: float | None = None
    where: str | None = None


_QUOTA_NAME = r"quota(?: limit)? ['\"]?(?P<quota>[\w.-]*[a-z][\w.-]*)['\"]?"
_LIMIT = r"limit:? ?(?P<limit>\d+(?:\.\d+)?)"
_WHERE = r"(?:in (?:the )?(?:region|zone)|for|in zone) ['\"]?(?P<where>[a-z]+-[a-z]+\d+(?:-[a-z])?)['\"]?"

_KINDS: tuple[tuple[RefusalKind, SkipReason, NextTry, str], ...] = (
    ("permission", "permission", "never", r"iam_permission_denied|is not found or access is unauthorized"),
    ("quota_tpu", "quota", "another_region", r"\w*per(?:project)?per(?:zone|region)fortpuapi"),
    ("quota_global", "quota", "never", r"quota.{0,80}exceeded.{0,80}\bglobally|gpus_all_regions"),
    (
        "quota_region",
        "quota",
        "another_region",
        r"quota_exceeded|quota.{0,120}(?:exceeded|exhausted)|quota.{0,80}limit: ?0",
    ),
    ("preempted", "capacity", "same_zone", r"in state preempted"),
    (
        "unsupported",
        "unsupported",
        "another_zone",
        r"could not be found in the zonal accelerator|machine type with name .{0,80}does not exist in zone"
        r"|provisioning model is not supported",
    ),
    ("reservation", "capacity", "another_zone", r"insufficient reserved capacity"),
    (
        "capacity_vm",
        "capacity",
        "another_zone",
        r"zone_resource_pool_exhausted|does not have enough resources available to fulfill|\bstockout|gce_stockout",
    ),
    ("capacity_tpu", "capacity", "another_zone", r"there is no more capacity in the zone|resource_exhausted"),
    ("reservation", "capacity", "another_zone", r"['\"]?code['\"]?: ?9\b"),
)


def classify(text: str) -> Refusal:
    """Classify an error's text, whatever its wrapping, spacing, line breaks or case.

    A text that matches nothing is `unknown`: the next zone is tried, and the caller keeps the full text.
    """
    plain = normal(text)
    met = next((row for row in _KINDS if re.search(row[-1], plain)), None)
    if met is None:
        return Refusal("unknown", "unknown", "another_zone", where=_found(_WHERE, "where", plain))
    kind, reason, next_try, _ = met
    quota = _found(_QUOTA_NAME, "quota", plain) if reason == "quota" else None
    limit = _found(_LIMIT, "limit", plain) if reason == "quota" else None
    where = _found(_WHERE, "where", plain)
    if kind == "quota_tpu":
        # A quota of a zone leaves the region's other zones open.
        next_try = "another_zone" if "perzone" in plain else "another_region"
    return Refusal(kind, reason, next_try, quota, None if limit is None else float(limit), where)


def normal(text: str) -> str:
    """Return the text in lower case and with single spaces, without a JSON string's backslashes and line breaks."""
    text = text.replace("\\n", " ").replace("\\t", " ").replace("\\u0027", "'")
    text = re.sub(r"\\+([\"'/])", r"\1", text)
    return " ".join(text.lower().split())


def _found(pattern: str, group: str, text: str) -> str | None:
    match = re.search(pattern, text)
    return match.group(group).rstrip(".") if match else None
