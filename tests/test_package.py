"""The package as a whole: what importing it costs, and who may import whom."""

import ast
import runpy
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

HEAVY = "torch numpy mmengine mmcv mmdet cv2 matplotlib rich transformers diffusers"


def _python(code: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, pld_mmdet; print(*{n.partition('.')[0] for n in sys.modules})"
    loaded = set(_python(code).stdout.split())
    assert "pld_mmdet" in loaded
    assert not loaded & set(HEAVY.split())


def test_importing_the_package_takes_no_time():
    code = (
        "import time; t = time.perf_counter(); import pld_mmdet;"
        "print(time.perf_counter() - t)"
    )
    assert min(float(_python(code).stdout) for _ in range(3)) < 0.05


def test_registry_brings_mmengine_but_no_detector():
    code = "import sys, pld_mmdet.registry; print(*sys.modules)"
    loaded = {name.partition(".")[0] for name in _python(code).stdout.split()}
    assert "mmengine" in loaded
    assert not loaded & {"mmdet", "mmcv", "transformers", "diffusers"}


def test_import_directions_are_kept():
    code = "from importlinter.cli import lint_imports_command as run; run()"
    command = [sys.executable, "-c", code, "--no-cache", "--no-logo"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_distill_takes_nothing_but_the_registry_from_mmengine():
    for path in (ROOT / "pld_mmdet" / "distill").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                if name.startswith("mmengine"):
                    assert name.startswith("mmengine.registry"), f"{path.name}: {name}"


def test_version_is_read_without_importing():
    import pld_mmdet

    lists = runpy.run_path(str(ROOT / "setup.py"), run_name="lists")
    assert lists["version"]() == pld_mmdet.__version__


def test_no_openmmlab_distribution_is_forced_on_a_user():
    lists = runpy.run_path(str(ROOT / "setup.py"), run_name="lists")
    forced = [line for line in lists["CORE"] if line.startswith(("mm", "onedl"))]
    assert forced == []
    lines = lists["EXTRAS"]
    names = {line.split(">")[0] for line in lines["onedl"]}
    assert names == {"onedl-mmengine", "onedl-mmcv", "onedl-mmdetection"}
    assert {line.split(">")[0] for line in lines["upstream"]} == {
        "mmengine",
        "mmcv",
        "mmdet",
    }


def test_no_name_is_registered_twice():
    """The rooms are imported one by one, so that a clash would show only sometimes."""
    found: dict[tuple[str, str], Path] = {}
    for path in sorted((ROOT / "pld_mmdet").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for mark in getattr(node, "decorator_list", []):
                words = ast.unparse(mark)
                if ".register_module" not in words:
                    continue
                key = words.partition(".")[0], node.name
                assert key not in found, f"{node.name}: {path} and {found[key]}"
                found[key] = path
    assert ("MODELS", "LPLD") in found
    assert len(found) > 200
