"""One command from a stock detector and a folder of images to an adapted detector."""

from pld_mmdet.adaptation.run import Adapted, adapt

__all__ = ["Adapted", "adapt"]
