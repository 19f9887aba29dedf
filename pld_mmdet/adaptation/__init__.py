"""One command from a stock detector and a folder of images to an adapted detector."""


def __getattr__(name: str):
    """Import torch when something is adapted, not for a ``--help``."""
    if name in ("Adapted", "adapt"):
        from pld_mmdet.adaptation import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
