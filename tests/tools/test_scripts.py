"""The shell scripts: syntax, set-up decisions, and distributed training for real."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.toy import write_config

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted([*(ROOT / "tools").glob("*.sh"), ROOT / ".ci" / "run"])

# Stands for an environment's interpreter: notes each call, has what `has` lists.
FAKE_PYTHON = """#!/bin/bash
here=$(dirname "$0")
if [ "$1" = - ]; then cat "$here/has"; exit 0; fi
if [ "$1" = -m ]; then printf '%s\\n' "$*" >>"$here/calls"; fi
exit 0
"""


def bash(command: str, cwd: Path, **variables) -> subprocess.CompletedProcess:
    drop = ("VIRTUAL_ENV", "CONDA_PREFIX", "PLD_STACK", "PLD_TORCH")
    env = {k: v for k, v in os.environ.items() if k not in drop}
    env |= {key: str(value) for key, value in variables.items()}
    command = ["bash", "-c", command]
    return subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, check=False
    )


@pytest.fixture
def checkout(tmp_path):
    """A repository with a space in its path and an active environment inside."""
    root = tmp_path / "my checkout"
    for name in ("tools/_env.sh", "setup.py", "pld_mmdet/__init__.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    python = root / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    (python.parent / "has").touch()
    return root


def set_up(checkout: Path, has: str = "", **variables) -> subprocess.CompletedProcess:
    (checkout / "env" / "bin" / "has").write_text(has)
    variables = {"CUDA_VISIBLE_DEVICES": "", **variables}
    command = 'set -euo pipefail; . tools/_env.sh; pld_setup; echo "at $PLD_ROOT"'
    return bash(command, checkout, VIRTUAL_ENV=checkout / "env", **variables)


def installs(checkout: Path) -> list[str]:
    """What pip was asked to install, call by call."""
    calls = checkout / "env" / "bin" / "calls"
    lines = calls.read_text().splitlines() if calls.exists() else []
    options = "-m pip install --disable-pip-version-check --no-input "
    return [line.replace(options, "") for line in lines]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_syntax(script):
    done = subprocess.run(["bash", "-n", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_empty_environment_gets_everything_in_order(checkout):
    done = set_up(checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(f"at {checkout}\n")
    asked = installs(checkout)
    assert asked[0].startswith("torch==2.13.0")
    order = ["torch", "setuptools<80", "onedl-mmengine", "onedl-mmcv", "onedl-mmdet"]
    places = [next(i for i, line in enumerate(asked) if name in line) for name in order]
    assert places == sorted(places)
    assert asked[-1] == "--no-deps --no-build-isolation -e ."


def test_second_set_up_asks_for_nothing(checkout):
    set_up(checkout)
    first = installs(checkout)
    again = set_up(checkout)
    assert installs(checkout) == first
    assert "Installing" not in again.stdout
    setup = checkout / "setup.py"
    setup.write_text(setup.read_text() + "# a new requirement\n")
    assert "Installing" in set_up(checkout).stdout


@pytest.mark.parametrize(
    "has",
    [
        "torch==2.9.0\nonedl-mmengine==0.10.12\nonedl-mmcv==2.3.6\n"
        "onedl-mmdetection==3.5.1\n",
        "torch==2.9.0\nmmengine==0.10.7\nmmcv==2.1.0\nmmdet==3.3.0\n",
    ],
    ids=["onedl", "upstream"],
)
def test_what_an_active_environment_has_is_never_replaced(checkout, has):
    assert set_up(checkout, has).returncode == 0
    asked = " ".join(installs(checkout))
    assert "torch==" not in asked
    assert "mm" not in asked.replace("-e .", "")


def test_missing_parts_follow_the_line_that_is_there(checkout):
    set_up(checkout, "torch==2.13.0\nmmengine==0.10.7\n")
    asked = " ".join(installs(checkout))
    assert "mmcv==2.1.0" in asked
    assert "mmdet==3.3.0" in asked
    assert "onedl" not in asked


def test_a_mixed_stack_is_one_sentence_and_the_line_that_mends_it(checkout):
    done = set_up(checkout, "torch==2.13.0\nmmdet==3.3.0\nonedl-mmdetection==3.5.1\n")
    assert done.returncode == 2
    sentence, fix = done.stderr.strip().splitlines()
    assert "mmdet==3.3.0 and onedl-mmdetection==3.5.1" in sentence
    assert "pip uninstall -y" in fix
    assert installs(checkout) == []


def test_lite_mmcv_is_refused(checkout):
    done = set_up(checkout, "mmcv-lite==2.1.0\n")
    assert done.returncode == 2
    assert "pip uninstall -y mmcv-lite" in done.stderr


def test_unknown_argument_of_the_demo_is_refused_before_any_set_up(tmp_path):
    done = bash(f"bash '{ROOT}/tools/demo.sh' --quik", tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "Unknown argument: --quik"
    assert "about 20 minutes" in bash(f"bash '{ROOT}/tools/demo.sh' -h", ROOT).stdout


def test_wheels_beside_the_checkout_are_added_not_put_instead(tmp_path):
    root = tmp_path / "main"
    for name in (".ci/run", "tools/test.sh"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / ".ci" / "run", root / ".ci" / "run")
    (root / "tools" / "test.sh").write_text('echo "links: $PIP_FIND_LINKS"')
    run = f"bash '{root}/.ci/run'"
    there = bash(run, tmp_path, PIP_FIND_LINKS="/some/wheels")
    assert there.stdout == "links: /some/wheels\n"
    (tmp_path / "shared" / "wheels").mkdir(parents=True)
    there = bash(run, tmp_path, PIP_FIND_LINKS="/some/wheels")
    assert there.stdout == "links: /some/wheels ../shared/wheels\n"


def dist_train(folder: Path, *arguments: str, **variables):
    config = write_config(folder)
    path = [ROOT / "tools" / "dist_train.sh", config, *arguments]
    command = " ".join(f"'{part}'" for part in path)
    variables = {"CUDA_VISIBLE_DEVICES": "", "PYTHON": sys.executable, **variables}
    return bash(f"bash {command}", ROOT, PYTHONPATH=ROOT, **variables)


def test_two_gloo_processes_train_one_model(tmp_path):
    work_dir = tmp_path / "run"
    done = dist_train(
        tmp_path,
        "2",
        "--work-dir",
        str(work_dir),
        "--cfg-options",
        "train_cfg.max_iters=4",
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    first, second = ((work_dir / f"rank{i}.txt").read_text() for i in (0, 1))
    assert first == second
    assert (work_dir / "iter_4.pth").is_file()  # the user's option counted too


def test_a_port_of_ones_own_goes_to_torchrun(tmp_path):
    said = tmp_path / "python"
    said.write_text("#!/bin/bash\necho $*\n")
    said.chmod(0o755)
    places = dict(NNODES=3, NODE_RANK=1, MASTER_ADDR="first")
    words = dist_train(tmp_path, "2", "--resume", PYTHON=said, PORT=29713).stdout
    assert (
        "--nnodes 1 --node_rank 0 --master_addr 127.0.0.1 --master_port 29713" in words
    )
    assert words.rstrip().endswith("--resume --launcher pytorch")
    words = dist_train(tmp_path, "2", PYTHON=said, PORT=29713, **places).stdout
    assert "--nnodes 3 --node_rank 1 --master_addr first --master_port 29713" in words
    assert "--nproc_per_node 2" in words
    assert "--standalone" not in words


# Stands for SLURM's: starts the tasks on this machine and notes what was asked for.
FAKE_SRUN = """#!/bin/bash
printf '%s\\n' "$@" >"$0.asked"
for word in "$@"; do
  case $word in --ntasks=*) export SLURM_NTASKS=${word#*=} ;; esac
done
while [ "$1" != python ]; do shift; done
for ((task = 1; task < SLURM_NTASKS; task++)); do SLURM_PROCID=$task "$@" & done
SLURM_PROCID=0 "$@"
code=$?
wait
exit $code
"""


def test_slurm_starts_the_same_training(tmp_path):
    config = write_config(tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "srun").write_text(FAKE_SRUN)
    (programs / "srun").chmod(0o755)
    places = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = bash(
        f"bash tools/slurm_train.sh short me '{config}' --work-dir '{tmp_path}/run' "
        "--cfg-options train_cfg.max_iters=4",
        ROOT,
        PATH=places,
        GPUS=2,
        SRUN_ARGS="--time=1 --mem=2G",
        CUDA_VISIBLE_DEVICES="",
        OMP_NUM_THREADS=1,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    first, second = ((tmp_path / f"run/rank{i}.txt").read_text() for i in (0, 1))
    assert first == second
    assert (tmp_path / "run" / "iter_4.pth").is_file()
    asked = (programs / "srun.asked").read_text().splitlines()
    assert asked[:2] == ["-p", "short"]
    assert {"--job-name=me", "--gres=gpu:2", "--time=1", "--mem=2G"} <= set(asked)


def test_number_of_processes_is_asked_for(tmp_path):
    done = dist_train(tmp_path, "--resume")
    assert done.returncode == 2
    assert "argument 2 must be the number of processes" in done.stderr
    assert "bash tools/dist_train.sh CONFIG PROCESSES" in done.stderr


def test_several_machines_need_a_port(tmp_path):
    done = dist_train(tmp_path, "2", NNODES=2)
    assert done.returncode == 2
    assert "Set PORT" in done.stderr


def test_compiling_shows_which_file_of_how_many(tmp_path):
    """ninja's own count, of this step only; the time left by it."""
    log = tmp_path / "setup.log"
    earlier = "[9/9] c++ of an earlier step\n"
    lines = [
        "  [1/120] c++ a.o",
        "\r  [30/120] c++ [7/8].o",
        "  note: [2/3] is no count",
    ]

    def said(content, seconds):
        log.write_text(earlier + content)
        command = (
            f"set -euo pipefail; . tools/_env.sh; PLD_LOG={log}; "
            f"pld_files {len(earlier)} {seconds}"
        )
        done = subprocess.run(
            ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert said("", 5) == ""
    assert said("Collecting mmcv", 5) == ""
    assert said(lines[0], 5) == ", file 1 of 120"
    # 30 files in 100 s, so 90 in 300 s
    assert said("\n".join(lines), 100) == ", file 30 of 120, about 5 min left"


def test_the_count_is_seen_while_a_step_runs(tmp_path):
    fake = tmp_path / "sleep"
    fake.write_text("#!/bin/bash\nexec /bin/sleep 0.2\n")
    fake.chmod(0o755)
    step = 'for n in 1 2 3 4 5 6; do echo "  [$n/6] c++"; /bin/sleep 0.2; done'
    command = (
        "set -euo pipefail; . tools/_env.sh; PLD_EVERY=1; "
        f"PLD_LOG={tmp_path}/log; : >$PLD_LOG; "
        f"pld_step compiling '11 minutes' bash -c '{step}'"
    )
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | path,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"compiling \.\.\. \d s .*, file [2-6] of 6", done.stdout)
