"""What several test modules start from."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def street_tree(tmp_path_factory) -> Path:
    """A FoggyStreets tree of a few images, made by the real command; only to read."""
    root = tmp_path_factory.mktemp("streets") / "data"
    command = [sys.executable, ROOT / "tools/prepare.py", "foggy_streets"]
    command += ["--root", root, "--train", "8", "--val", "3", "--test", "3"]
    subprocess.run([str(c) for c in command], check=True, capture_output=True)
    return root


@pytest.fixture
def streets(street_tree, tmp_path_factory) -> Path:
    """A tree of one's own, to add files to."""
    root = tmp_path_factory.mktemp("streets") / "data"
    return Path(shutil.copytree(street_tree, root))
