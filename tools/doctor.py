#!/usr/bin/env python
"""Look at the environment: what is there, what is missing, the line that mends it.

Checks Python, torch and its GPU, the line of the OpenMMLab stack, mmcv's compiled
operators (by running one), the versions that setup.py asks for, and the optional
libraries of each family. Exit code 0 when training a detector can start, 2 otherwise.

Example:
    python tools/doctor.py
"""

import argparse
import importlib
import platform
import runpy
import shutil
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pld_mmdet.cli import ToolParser, run_tool  # noqa: E402
from pld_mmdet.errors import UserError  # noqa: E402

STACKS = ("onedl", "upstream")


class Report:
    """Lines of a check-up, and whether something needed is missing."""

    def __init__(self) -> None:
        self.broken = False

    def say(self, good: bool | None, what: str, fix: str = "") -> None:
        """Print one line.

        Args:
            good: True: fine; False: needed and missing; None: optional and missing.
            what: What was found.
            fix: The line that mends it.
        """
        mark = {True: "ok     ", False: "MISSING", None: "without"}[good]
        print(f"{mark}  {what}" + (f"\n         -> {fix}" if fix else ""))
        self.broken |= good is False


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser(__doc__)
    return parser.parse_args()


def requirements() -> tuple[list[str], dict[str, list[str]]]:
    """What setup.py asks for: always, and by extra."""
    if (ROOT / "setup.py").is_file():
        lists = runpy.run_path(str(ROOT / "setup.py"), run_name="requirements")
        return lists["CORE"], lists["EXTRAS"]
    core: list[str] = []  # installed: the same lists, as pip keeps them
    extras: dict[str, list[str]] = {}
    for line in metadata.requires("pld-mmdet") or []:
        wanted, _, extra = line.partition(" extra == ")
        wanted = wanted.rstrip("; ")
        (extras.setdefault(extra.strip("'\" "), []) if extra else core).append(wanted)
    return core, extras


def unmet(lines: list[str]) -> list[str]:
    """Requirements that are not installed or too old, with what is there."""
    from packaging.requirements import Requirement

    found = []
    for line in lines:
        wanted = Requirement(line)
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            found.append(line)
            continue
        # local parts of a version (2.13.0+cpu) say nothing about its age
        if not wanted.specifier.contains(version.partition("+")[0], prereleases=True):
            found.append(f"{line} (here: {version})")
    return found


def names(lines: list[str]) -> str:
    """Requirements as arguments of pip."""
    return " ".join(f"'{line.partition(' (')[0]}'" for line in lines)


def check_python(report: Report) -> None:
    """Python's version and the free space of this disk."""
    good = sys.version_info >= (3, 10)
    text = f"Python {platform.python_version()} on {platform.platform(terse=True)}"
    report.say(good, text, "" if good else "Install Python 3.10 or newer.")
    free = shutil.disk_usage(ROOT).free / 2**30
    fix = "" if free > 2 else "Checkpoints need room: free some space."
    report.say(free > 2, f"{free:.0f} GiB free in {ROOT}", fix)


def check_core(report: Report) -> None:
    """Libraries that are always needed; torch, and the device it would use."""
    core, _ = requirements()
    missing = unmet(core)
    if missing:
        report.say(False, ", ".join(missing), f"pip install {names(missing)}")
    if any(line.startswith("torch>") for line in missing):
        return
    import torch

    device = "no GPU: runs on the CPU"
    if torch.cuda.is_available():
        device = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
        device += f", CUDA {torch.version.cuda}"
    report.say(True, f"torch {torch.__version__}; {device}")


def check_stack(report: Report) -> None:
    """Which line of mmengine, mmcv and mmdet, and whether its operators run."""
    from pld_mmdet.engine.run import stack

    try:
        line = stack.check_stack()
    except UserError as error:
        report.say(False, error.what, error.fix)
        return
    _, extras = requirements()
    missing = unmet(extras[line])
    versions = ", ".join(
        f"{module} {stack.installed(name if line == 'onedl' else module)}"
        for module, name in stack._PAIRS.items()
    )
    fix = f"pip install --no-build-isolation {names(missing)}" if missing else ""
    # an older version may work, so it is no reason to stop
    report.say(None if missing else True, f"{line} line: {versions}", fix)
    try:
        import torch
        from mmcv.ops import nms, roi_align

        boxes = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 7]])
        nms(boxes, torch.tensor([0.9, 0.8]), 0.5)
        roi_align(torch.ones(1, 1, 8, 8), torch.tensor([[0.0, 0, 0, 8, 8]]), 2)
    except (ImportError, RuntimeError) as error:
        distribution = "onedl-mmcv" if line == "onedl" else "mmcv"
        version = stack.installed(distribution)
        report.say(
            False,
            f"mmcv's compiled operators do not run here ({error})",
            f"pip install --no-build-isolation --force-reinstall --no-deps "
            f"--no-binary {distribution} {distribution}=={version}  (11 minutes on two "
            "cores; needs a C++ compiler, ninja and 'setuptools<80')",
        )
    else:
        report.say(True, "mmcv's compiled operators run (nms, roi_align)")


def check_extras(report: Report) -> None:
    """Optional libraries, family by family."""
    _, extras = requirements()
    for extra, lines in extras.items():
        if extra in STACKS:
            continue
        missing = unmet(lines)
        fix = f"pip install {names(missing)}" if missing else ""
        what = ", ".join(missing) if missing else ", ".join(lines)
        report.say(None if missing else True, f"[{extra}] {what}", fix)


def main(args: argparse.Namespace | None = None) -> int:
    """Check everything; 0 when training a detector can start."""
    report = Report()
    check_python(report)
    try:
        importlib.import_module("packaging")
    except ModuleNotFoundError:
        report.say(False, "packaging", "pip install packaging")
        return 2
    check_core(report)
    check_stack(report)
    check_extras(report)
    if report.broken:
        print(
            "\nMend the lines marked MISSING from top to bottom, then run this again."
        )
        return 2
    checkout = "bash tools/demo.sh, or python tools/train.py CONFIG"
    installed = "pld-mmdet adapt CONFIG CHECKPOINT IMAGES, or pld-mmdet train CONFIG"
    print(f"\nReady: {checkout if (ROOT / 'setup.py').is_file() else installed}")
    return 0


if __name__ == "__main__":
    run_tool(main, parse_args, stack=False)
