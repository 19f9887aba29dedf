"""One sentence for each way in which the mm* stack can be wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from pld_mmdet.engine.run import stack
from pld_mmdet.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
ONEDL = {"onedl-mmengine": "1", "onedl-mmcv": "2", "onedl-mmdetection": "3"}
UPSTREAM = {"mmengine": "1", "mmcv": "2", "mmdet": "3"}


def check(monkeypatch, *installed):
    found = {k: v for packages in installed for k, v in packages.items()}
    monkeypatch.setattr(stack, "installed", found.get)
    return stack.check_stack()


def test_whole_lines(monkeypatch):
    assert check(monkeypatch, ONEDL) == "onedl"
    assert check(monkeypatch, UPSTREAM) == "upstream"


@pytest.mark.parametrize(
    ("installed", "what", "fix"),
    [
        ({}, "Not installed: mmengine, mmcv, mmdet", "pld-mmdet[onedl]"),
        ({"mmengine": "1", "mmcv": "2"}, "Not installed: mmdet", "pld-mmdet[upstream]"),
        (
            {**ONEDL, "mmdet": "3.3"},
            "mmdet and onedl-mmdetection are both installed",
            "pip uninstall -y mmdet && pip install --force-reinstall --no-deps "
            "--no-build-isolation onedl-mmdetection==3",
        ),
        (
            {"onedl-mmengine": "1", "onedl-mmcv": "2", "mmdet": "3.3"},
            "mixed: mmdet does not belong to the onedl line",
            "pip uninstall -y mmdet && pip install",
        ),
        (
            {"mmengine": "1", "onedl-mmcv": "2", "mmdet": "3.3"},
            "mixed: onedl-mmcv does not belong to the upstream line",
            "pld-mmdet[upstream]",
        ),
    ],
)
def test_wrong_stacks(monkeypatch, installed, what, fix):
    with pytest.raises(UserError) as caught:
        check(monkeypatch, installed)
    assert what in caught.value.what
    assert fix in caught.value.fix
    assert len(str(caught.value).splitlines()) == 2


def test_tools_say_it_without_any_of_the_libraries(tmp_path):
    """A Python without mm* and torch: help and the sentence still come."""
    for tool in ("train", "test", "export"):
        path = str(ROOT / "tools" / f"{tool}.py")
        command = [sys.executable, "-S", path]  # -S: no site-packages
        shown = subprocess.run([*command, "--help"], capture_output=True, text=True)
        assert shown.returncode == 0, shown.stderr
        assert "Examples" in shown.stdout
        ran = subprocess.run(
            [*command, "a", "b"] if tool != "train" else [*command, "a"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert ran.returncode == 2
        assert ran.stderr.startswith("error: Not installed: mmengine")
        assert "pld-mmdet[onedl]" in ran.stderr
