"""Reports of verification to and from the store: only of what passed."""

import json
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import neuronc
from neuronc.cache.cache import Cache
from neuronc.cache.entry import REPORT
from neuronc.cache.key import Key


def take_report(cache: Cache, key: Key) -> dict[str, Any] | None:
    """The report of ``key``; None if there is none."""
    with tempfile.TemporaryDirectory(prefix="neuronc-report-") as scratch:
        if cache.take(key, Path(scratch)) is None:
            return None
        try:
            report = json.loads(Path(scratch, REPORT).read_bytes())
        except (ValueError, RecursionError):
            return None
    return report if isinstance(report, dict) and report.get("passed") is True else None


def keep_report(cache: Cache, key: Key, report: Mapping[str, Any]) -> None:
    """Keep ``report``, of a verification that passed."""
    if report.get("passed") is not True:
        return
    with tempfile.TemporaryDirectory(prefix="neuronc-report-") as scratch:
        Path(scratch, REPORT).write_text(json.dumps(report), encoding="utf-8")
        facts = {
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "what": "a verification that passed",
            "neuronc": neuronc.__version__,
        }
        cache.put(key, Path(scratch), [REPORT], facts)
