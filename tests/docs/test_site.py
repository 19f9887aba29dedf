"""The site builds, and its links lead somewhere: mkdocs calls both an error else."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pages():
    path = ROOT / "tools/_docs_pages.py"
    spec = importlib.util.spec_from_file_location("_docs_pages", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_module_has_a_page(pages):
    listed = {module for modules in pages.packages().values() for module in modules}
    assert {"pld_mmdet.distill.losses", "pld_mmdet.detection.lpld"} <= listed
    assert not any("__init__" in module or ".mim" in module for module in listed)


def test_the_site_builds_strictly(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    command += ["-f", "tools/mkdocs.yml", "-d", str(tmp_path / "site")]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "site/api/classification.html").read_text(encoding="utf-8")
    assert "BDKD" in page
    assert 'href="docs/' not in (tmp_path / "site/index.html").read_text("utf-8")
