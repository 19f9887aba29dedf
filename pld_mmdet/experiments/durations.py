"""How long rows took when they were recorded."""

import json
from pathlib import Path

from pld_mmdet.places import home

UNKNOWN_SECONDS = 60.0


def recorded_seconds(experiment: str, row: str, folder: Path | None = None) -> float:
    """How long a row took when it was recorded; a minute where it never was.

    Args:
        experiment: Its name.
        row: Its name.
        folder: Of the records [``docs/results`` of this checkout].
    """
    file = (folder or home() / "docs/results") / f"{experiment}.json"
    if not file.is_file():
        return UNKNOWN_SECONDS
    rows = json.loads(file.read_text(encoding="utf-8")).get("rows", [])
    minutes = [r["minutes"] for r in rows if r.get("name") == row and r.get("minutes")]
    return 60.0 * minutes[0] if minutes else UNKNOWN_SECONDS
