"""The installed package: nothing of the checkout is needed, and nothing is replaced."""

import os
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from pld_mmdet.__main__ import TOOLS, main
from pld_mmdet.errors import UserError
from pld_mmdet.places import get_config, home

ROOT = Path(__file__).resolve().parents[1]

# An environment of mmdet 3.3 as its own installation page makes it.
MMDET_33 = {
    "torch": "2.1.0",
    "numpy": "1.26.4",
    "pycocotools": "2.0.7",
    "rich": "13.4.2",
    "matplotlib": "3.7.5",
    "mmengine": "0.10.7",
    "mmcv": "2.1.0",
    "mmdet": "3.3.0",
}


def test_requirements_replace_nothing_in_an_environment_of_mmdet_3_3():
    lists = runpy.run_path(str(ROOT / "setup.py"), run_name="requirements")
    lines = lists["CORE"] + lists["EXTRAS"]["upstream"] + lists["EXTRAS"]["report"]
    for line in lines:
        wanted = Requirement(line)
        assert wanted.specifier.contains(MMDET_33[wanted.name]), line


def test_only_one_extra_has_an_upper_bound():
    lists = runpy.run_path(str(ROOT / "setup.py"), run_name="requirements")
    bounded = [
        line
        for lines in [lists["CORE"], *lists["EXTRAS"].values()]
        for line in lines
        if "<" in line or "==" in line
    ]
    assert bounded == ["mmcv>=2.1.0,<2.2.0"]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder with the unpacked wheel, as ``site-packages`` would hold it."""
    out = tmp_path_factory.mktemp("wheel")
    source = out / "source"  # building writes beside setup.py
    source.mkdir()
    for name in ("setup.py", "README.md", "pyproject.toml", "configs", "tools", "docs"):
        (source / name).symlink_to(ROOT / name)
    (source / "pld_mmdet").symlink_to(ROOT / "pld_mmdet")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps"]
    command += ["--no-build-isolation", "-w", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    with zipfile.ZipFile(next(out.glob("*.whl"))) as wheel:
        wheel.extractall(out / "site")
    return out / "site"


def run(site: Path, folder: Path, *words: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, *words]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_wheel_carries_every_config_and_tool(site):
    mim = site / "pld_mmdet" / ".mim"
    for folder, kind in (("configs", "*.py"), ("tools", "*")):
        here = {p.relative_to(ROOT) for p in (ROOT / folder).rglob(kind) if p.is_file()}
        here = {p for p in here if "__pycache__" not in p.parts}
        there = {p.relative_to(mim) for p in (mim / folder).rglob(kind) if p.is_file()}
        assert there == here
    assert (site / "pld_mmdet/methods.csv").is_file()
    [points] = site.glob("*.dist-info/entry_points.txt")
    assert "pld-mmdet = pld_mmdet.__main__:main" in points.read_text()


def test_the_tools_run_without_the_checkout(site, tmp_path):
    done = run(site, tmp_path, "-m", "pld_mmdet", "list", "--family", "audio")
    assert done.returncode == 0, done.stderr
    (line,) = [x for x in done.stdout.splitlines() if "HuBERTopic" in x]
    assert "in work" not in line  # it lacks no file, though a wheel has no tests
    done = run(site, tmp_path, "-m", "pld_mmdet", "prepare", "nothing")
    assert done.returncode == 2
    assert "python -m pld_mmdet prepare --help lists" in done.stderr
    done = run(site, tmp_path, "-m", "pld_mmdet", "train", "nowhere.py")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_get_config_and_bases_find_the_installed_configs(site, tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("_base_ = 'pld_mmdet::lpld/foggy_streets.py'\nseed = 7\n")
    code = (
        "import pld_mmdet.registry, pld_mmdet\n"
        "from mmengine.config import Config\n"
        "from mmengine.hub import get_config\n"
        "from mmengine.registry import MODELS\n"
        "theirs = get_config('pld_mmdet::lpld/foggy_streets.py')\n"
        "ours = pld_mmdet.get_config('lpld/foggy_streets.py')\n"
        f"mine = Config.fromfile({str(mine)!r})\n"
        "assert theirs.model == ours.model\n"
        "assert {**mine.model} == {**ours.model, '_scope_': 'pld_mmdet'}\n"
        "model = MODELS.build(mine.model)\n"
        "print(pld_mmdet.__file__, type(model.student).__module__, mine.seed)"
    )
    done = run(site, tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-3:] == [
        str(site / "pld_mmdet/__init__.py"),
        "mmdet.models.detectors.faster_rcnn",
        "7",
    ]


def test_two_processes_start_from_the_installed_package(site, tmp_path):
    """What ``adapt(gpus=2)`` starts exists, and is the installed one."""
    code = "from pld_mmdet.places import tool; print(tool('train'))"
    done = run(site, tmp_path, "-c", code)
    assert Path(done.stdout.strip()) == site / "pld_mmdet/.mim/tools/train.py"
    assert Path(done.stdout.strip()).is_file()


def test_in_a_checkout_the_checkout_counts():
    assert home() == ROOT
    assert get_config("pld_mmdet::ps_kd/toy.py").model.type == "pld_mmdet.PSKD"
    with pytest.raises(UserError, match=r"no config ps_kd/toi\.py") as error:
        get_config("ps_kd/toi.py")
    assert error.value.fix == "Did you mean ps_kd/toy.py?"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "usage: pld-mmdet TOOL"),
        (["--help"], 0, "adapt a detector"),
        (["--version"], 0, "pld-mmdet "),
        (["adpat"], 2, "Did you mean adapt?"),
        (["zzz"], 2, "Choose: adapt, train"),
    ],
)
def test_the_console_command_explains_itself(words, code, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == code
    out = capsys.readouterr()
    assert said in out.out + out.err


def test_every_tool_of_the_console_command_exists():
    for file, _ in TOOLS.values():
        assert (ROOT / "tools" / f"{file}.py").is_file()
