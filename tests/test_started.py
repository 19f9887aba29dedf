"""Commands in help and errors work where they are read; help comes at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pld_mmdet import started
from pld_mmdet.places import home, shipped_config

ROOT = Path(__file__).resolve().parents[1]
TEXT = (
    "python tools/train.py A then tools/check_data.py B, bash tools/dist_train.sh C 2;"
    " see pld_mmdet/tools/x.py"
)
TOOLS = sorted(p.name for p in (ROOT / "tools").glob("[!_]*.py"))


@pytest.mark.parametrize(
    ("argv", "program", "text"),
    [
        ("tools/test.py", "python tools/test.py", TEXT),
        ("pytest", None, TEXT),
        (
            f"{ROOT}/tools/test.py",
            f"python {ROOT}/tools/test.py",
            f"python {ROOT}/tools/train.py A then python {ROOT}/tools/check_data.py B, "
            f"bash {ROOT}/tools/dist_train.sh C 2; see pld_mmdet/tools/x.py",
        ),
        (
            "pld-mmdet test",
            "pld-mmdet test",
            f"pld-mmdet train A then python {ROOT}/tools/check_data.py B, "
            f"bash {ROOT}/tools/dist_train.sh C 2; see pld_mmdet/tools/x.py",
        ),
        (
            "python -m pld_mmdet test",
            "python -m pld_mmdet test",
            f"python -m pld_mmdet train A then python {ROOT}/tools/check_data.py B, "
            f"bash {ROOT}/tools/dist_train.sh C 2; see pld_mmdet/tools/x.py",
        ),
    ],
)
def test_commands_are_those_of_the_start(monkeypatch, argv, program, text):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [argv])
    assert started.program() == program
    assert started.as_typed(TEXT) == text


@pytest.mark.parametrize("tool", TOOLS)
def test_help_imports_no_library_and_its_commands_exist(tool, tmp_path):
    """It takes a twentieth of a second; torch alone takes two."""
    code = (
        "import runpy, sys\n"
        "sys.argv = [sys.argv[1], '--help']\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print('IMPORTED', *{'torch', 'mmengine', 'cv2', 'mmdet'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", code, str(ROOT / "tools" / tool)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    more = dict(cwd=tmp_path, env=environment, capture_output=True, text=True)
    said = subprocess.run(command, check=True, **more).stdout
    assert said.splitlines()[-1].strip() == "IMPORTED"
    assert "usage: python " in said or tool == "net.py"  # which runs other checkouts
    assert "OneDL" not in said
    for word in said.split():
        if "tools/" in word and word.endswith((".py", ".sh")) and "/" in word[:1]:
            assert Path(word).is_file(), word


def test_a_config_of_the_package_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours = home() / "configs/ps_kd/toy.py"
    assert shipped_config("configs/ps_kd/toy.py") == ours
    assert shipped_config("pld_mmdet::ps_kd/toy.py") == ours
    for name in ("ps_kd/toy.py", "configs/ps_kd/toi.py"):
        assert shipped_config(name) == Path(name)
    (tmp_path / "configs/ps_kd").mkdir(parents=True)
    (tmp_path / "configs/ps_kd/toy.py").touch()
    mine = shipped_config("configs/ps_kd/toy.py")
    assert mine == Path("configs/ps_kd/toy.py")  # one's own comes first
