"""What a run counts of itself beside its metrics."""


def _guarded(content: dict) -> dict[str, float]:
    """``guard.json`` in numbers: windows, those with an alarm, the least kept share."""
    windows = content["windows"]
    alarms = sum(bool(w["signs"] or w.get("lost")) for w in windows)
    kept = [w["kept"] for w in windows if "kept" in w]
    least = {"least_kept": min(kept)} if kept else {}
    return {"windows": len(windows), "alarms": alarms, **least}


# What a run counts of itself: the file in its folder, and the numbers in it. A row of
# the record and a gate's ``on`` have these names.
COUNTED = {
    "pseudo": ("pseudo_truth.json", lambda content: content["metrics"]),
    "guard": ("guard.json", _guarded),
}
