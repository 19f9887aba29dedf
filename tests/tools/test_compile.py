"""mmcv's compile: stopped at any moment, gone on with, and done once for all.

A package of six files that take 0.4 s each stands for mmcv, whose compile takes
minutes; everything else is real: the script, pip, ninja, the signals.
"""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NINJA = shutil.which(
    "ninja", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"
)
FILES = 6
SETUP = """
import subprocess, sys
from setuptools import setup
if "bdist_wheel" in sys.argv:
    subprocess.run(["{ninja}", "-C", "build", "-j1"], check=True)
setup(name="fakecv", version="1.0", py_modules=["fakecv"])
"""
RULE = """
rule cc
  command = echo $out >> ../compiled; sleep 0.4; touch $out
"""
SCRIPT = """
set -euo pipefail
. '{root}/tools/_env.sh'
PLD_LOG={tmp}/setup.log; : >"$PLD_LOG"
PLD_PYTHON={python} PLD_PREFIX={tmp} PLD_MMCV=fakecv==1.0
pld_gpu() {{ false; }}
pld_mmcv_wheel() {{ return 1; }}
pld_mmcv_works() {{ [ -f "$PIP_TARGET/fakecv.py" ]; }}
pld_mmcv_key() {{ echo "$PLD_MMCV-with torch 3"; }}
pld_install_mmcv
echo installed
"""

pytestmark = pytest.mark.skipif(NINJA is None, reason="needs ninja")


@pytest.fixture
def sources(tmp_path) -> Path:
    """A folder with the sources of the stand-in, as an index would offer them."""
    inner = tmp_path / "fakecv-1.0"
    (inner / "build").mkdir(parents=True)
    (inner / "setup.py").write_text(SETUP.format(ninja=NINJA))
    (inner / "fakecv.py").touch()
    targets = "".join(f"build {n}.o: cc\n" for n in range(FILES))
    (inner / "build/build.ninja").write_text(RULE + targets)
    (tmp_path / "links").mkdir()
    with tarfile.open(tmp_path / "links/fakecv-1.0.tar.gz", "w:gz") as archive:
        archive.add(inner, "fakecv-1.0")
    return tmp_path / "links"


def start(tmp_path: Path, target: str = "one", **more) -> subprocess.Popen:
    script = tmp_path / "set_up.sh"
    values = dict(root=ROOT, tmp=tmp_path, python=sys.executable)
    script.write_text(SCRIPT.format(**values))
    environment = os.environ | {
        "PLD_CACHE": str(tmp_path / "cache"),
        "PIP_TARGET": str(tmp_path / target),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path / "links"),
        "PLD_EVERY": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    return subprocess.Popen(
        ["bash", str(script)],
        env=environment | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen) -> str:
    output = process.communicate(timeout=100)[0]
    assert process.returncode == 0, output
    return output


def compiled(tmp_path: Path) -> list[str]:
    (file,) = tmp_path.glob("cache/build/*/source/compiled")
    return file.read_text().split()


def left_behind(tmp_path: Path) -> list[str]:
    """Processes that work in the build folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if (place / "cwd").resolve().is_relative_to(tmp_path / "cache"):
                found.append((place / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    ("number", "whole_group", "code"),
    [
        ("SIGINT", True, 130),
        ("SIGTERM", True, 143),
        ("SIGTERM", False, 143),
        ("SIGKILL", False, -9),
    ],
)
def test_stopped_and_gone_on_with(tmp_path, sources, number, whole_group, code):
    process = start(tmp_path)
    end = time.time() + 60
    while len([*tmp_path.glob("cache/build/*/source/build/*.o")]) < 2:
        assert time.time() < end
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    assert left_behind(tmp_path)
    for send in [os.killpg] * 2 if whole_group else [os.kill]:  # as timeout does
        send(process.pid, getattr(signal, number))
    process.wait(10)
    end = time.time() + 10
    while left_behind(tmp_path):
        assert time.time() < end, left_behind(tmp_path)
        time.sleep(0.1)
    before = compiled(tmp_path)
    assert len(before) < FILES
    said = process.communicate()[0]
    assert process.returncode == code, said
    assert "fakecv==1.0 is compiled now, once, about 80 files in" in said
    if number != "SIGKILL":
        whole = len([*tmp_path.glob("cache/build/*/source/build/*.o")])
        assert "nothing was left running" in said
        assert f"({whole} files are compiled)" in said
    again = ended(start(tmp_path))
    assert "files are compiled)" in again
    assert again.endswith("installed\n")
    assert not [*tmp_path.glob("cache/build/*/source")]  # the wheel is there


def test_no_file_is_compiled_twice_and_no_wheel_built_twice(tmp_path, sources):
    process = start(tmp_path)
    while not [*tmp_path.glob("cache/build/*/source/build/3.o")]:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    kept = tmp_path / "kept"  # outlives the build folder
    (source,) = tmp_path.glob("cache/build/*/source")
    os.link(source / "compiled", kept)
    os.kill(process.pid, signal.SIGTERM)
    process.communicate()
    said = ended(start(tmp_path))
    counts = [kept.read_text().split().count(f"{n}.o") for n in range(FILES)]
    assert counts[:4] == [1] * 4  # the fifth was under way
    assert max(counts) <= 2
    assert f"of {FILES - 4}\n" in said  # ninja's own count of what is missing
    other = ended(start(tmp_path, "another"))
    assert "the wheel of an earlier compile" in other
    assert "is compiled now" not in other
    assert (tmp_path / "another/fakecv.py").is_file()
    assert counts == [kept.read_text().split().count(f"{n}.o") for n in range(FILES)]


def test_a_wheel_that_does_not_work_here_is_built_again(tmp_path, sources):
    ended(start(tmp_path))
    (wheel,) = tmp_path.glob("cache/wheels/*/*.whl")
    wheel.write_bytes(b"torn")
    said = ended(start(tmp_path, "another"))
    assert "is compiled now" in said
    assert wheel.stat().st_size > 100
