"""tools/reproduce.py as a user calls it, with a stand-in for training and testing."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]

# Acts as data, train and test command: writes what the real ones write.
TOOL = """
import argparse, hashlib, json, pathlib, sys
what = sys.argv.pop(1)
parser = argparse.ArgumentParser()
parser.add_argument('config')
parser.add_argument('checkpoint', nargs='?')
for name in ('--work-dir', '--seed', '--out-metrics', '--resume', '--images', '--root'):
    parser.add_argument(name)
parser.add_argument('--cfg-options', nargs='+', default=[])
parser.add_argument('--overwrite', action='store_true')
args = parser.parse_args()
options = dict(option.split('=', 1) for option in args.cfg_options)
calls = pathlib.Path(__file__).with_name('calls')
with open(calls, 'a') as file:
    file.write(f"{what} {args.config} {' '.join(args.cfg_options)}\\n")
if what == 'data':
    path = pathlib.Path(args.root) / 'train.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(args.images or '800')
elif what == 'train':
    folder = pathlib.Path(args.work_dir)
    start = options.get('load_from')
    origin = pathlib.Path(start).read_text() if start else ''
    (folder / 'iter_9.pth').write_text(f'{origin}{folder.name}{args.seed};')
    (folder / 'last_checkpoint').write_text(str((folder / 'iter_9.pth').resolve()))
    run = dict(command='train', commit='abc', minutes=0.5, dirty=False)
    run |= dict(peak_memory_mb={'host': 7}, machine={'processor': 'Chip', 'cores': 2})
    (folder / 'run.json').write_text(json.dumps(run))
else:
    history = pathlib.Path(args.checkpoint).read_text()
    value = 0.3 + 0.1 * history.count('lpld') + 0.01 * int(history[-2])
    test = dict(metrics={'coco/AP50': value}, command='test', history=history)
    pathlib.Path(args.out_metrics).write_text(json.dumps(test))
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "tool.py").write_text(TOOL)
    tool, data = f"python {tmp_path / 'tool.py'}", tmp_path / "data"
    for name in ("source", "source_fog", "lpld"):
        (tmp_path / f"{name}.py").write_text(
            "train_dataloader = dict(dataset=dict("
            f"data_root='{data}/', ann_file='train.json'))\nlr = 1\n"
        )
    # As in the real configs, a row may carry the experiment itself.
    lpld = tmp_path / "lpld.py"
    lpld.write_text("_base_ = './table.py'\n" + lpld.read_text())
    path = tmp_path / "table.py"
    path.write_text(f"""
experiment = dict(
    name='toy', data='{tool} data toy --root {data}',
    train='{tool} train', test='{tool} test',
    quick=dict(data_args='--images 48 --root {data}_quick',
               cfg_options=['lr=3'],
               data_root=('{data}/', '{data}_quick/')),
    reported='teacher',
    pictures=dict(draw='pld_mmdet.diffusion.scores.pictures.points', label='fog'),
    rows=[
        dict(name='source', title='Source only', config='{tmp_path}/source.py',
             evaluate=dict(clear=None, fog='{tmp_path}/source_fog.py'), seconds=9),
        dict(name='lpld', title='LPLD', config='{tmp_path}/lpld.py', init='source',
             evaluate=dict(fog=None), quick=['steps=2'], seconds=9),
    ])
""")
    return path


def run(config: Path, *arguments) -> subprocess.CompletedProcess:
    out = config.parent / "out"
    command = [sys.executable, ROOT / "tools" / "reproduce.py", config, "--out", out]
    command = [str(part) for part in [*command, *arguments]]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def calls(config: Path) -> list[str]:
    return (config.parent / "calls").read_text().splitlines()


def test_rows_of_one_seed_start_from_the_same_checkpoint(config):
    recorded = config.parent / "toy.json"
    done = run(config, "--seeds", 0, 2, "--result", recorded)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(recorded.read_text())
    for seed in (0, 2):
        folder = config.parent / "out" / f"seed_{seed}"
        test = json.loads((folder / "lpld" / "metrics_fog.json").read_text())
        assert test["history"] == f"source{seed};lpld{seed};"
    source, lpld = result["rows"]
    assert list(source["evaluate"]) == ["clear", "fog"]
    assert lpld["evaluate"]["fog"]["mean"]["coco/AP50"] == pytest.approx(0.41)
    assert lpld["evaluate"]["fog"]["std"]["coco/AP50"] == pytest.approx(0.014142)
    assert result["missing"] == []
    assert result["commit"] == "abc"
    assert "reproduce.py" in result["command"]
    assert "41.0 ± 1.4" in done.stdout
    assert json.loads((config.parent / "out" / "result.json").read_text()) == result


def test_second_call_runs_nothing_and_says_within(config):
    recorded = config.parent / "toy.json"
    run(config, "--seeds", 0, 1, "--result", recorded)
    before = calls(config)
    again = run(config, "--seeds", 0, 1, "--result", recorded, "--overwrite", "--check")
    assert again.returncode == 0, again.stdout + again.stderr
    assert calls(config) == before
    assert "11 done before" in again.stdout
    assert "LPLD on fog: 40.5: within the recorded range" in again.stdout
    # nobody kept samples, and a row's are drawn beside the record
    assert "Note: LPLD has no samples for the picture." in again.stdout
    kept = config.parent / "out" / "seed_0" / "lpld" / "test_fog"
    kept.mkdir()
    np.savez(kept / "samples.npz", samples=np.zeros((3, 2)))
    again = run(config, "--seeds", 0, 1, "--result", recorded, "--overwrite")
    assert "Samples of seed 0 side by side" in again.stdout
    assert recorded.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"


def test_another_result_than_recorded_fails_the_check(config):
    recorded = config.parent / "toy.json"
    run(config, "--seeds", 0, "--result", recorded)
    content = json.loads(recorded.read_text())
    content["rows"][1]["evaluate"]["fog"]["mean"]["coco/AP50"] = 0.5
    recorded.write_text(json.dumps(content))
    again = run(config, "--seeds", 0, "--result", recorded, "--overwrite", "--check")
    assert again.returncode == 1
    assert "LPLD on fog: 40.0: OUTSIDE the recorded range 50.0" in again.stdout


def test_rows_bring_what_they_start_from(config):
    done = run(config, "--seeds", 0, "--rows", "lpld")
    assert done.returncode == 0, done.stdout + done.stderr
    trained = [line.split()[1] for line in calls(config) if line.startswith("train")]
    assert [Path(path).stem for path in trained] == ["source", "lpld"]


def test_a_changed_config_redoes_its_row_only(config):
    run(config, "--seeds", 0)
    first = len(calls(config))
    path = config.parent / "lpld.py"
    path.write_text(path.read_text().replace("lr = 1", "lr = 2"))
    assert run(config, "--seeds", 0).returncode == 0
    redone = [line.split()[:2] for line in calls(config)[first:]]
    assert redone == [["train", str(path)], ["test", str(path)]]


@pytest.mark.parametrize(("asked", "word"), [(0.05, "passes"), (0.2, "FAILS")])
def test_a_gate_evaluates_only_what_it_asks_about(config, asked, word):
    gate = dict(title="Gain", row="lpld", on="fog", metric="coco/AP50", at_least=asked)
    gate |= dict(minus="source", minus_on="clear")
    text = config.read_text().replace("'toy',", f"'toy', gates=[{gate}],", 1)
    config.write_text(text)
    done = run(config, "--seeds", 3, "--gate")
    assert f"Gate: Gain: 0.1, at least {asked:g}: {word}." in done.stdout, done.stderr
    assert done.returncode == (word == "FAILS")
    tested = [c.split()[1] for c in calls(config) if c.startswith("test")]
    assert [Path(path).stem for path in tested] == ["source", "lpld"]  # no source_fog


def test_quick_moves_the_data_and_changes_options(config):
    done = run(config, "--seeds", 0, "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    tiny = config.parent / "data_quick"
    lines = calls(config)
    options = f"lr=3 train_dataloader.dataset.data_root={tiny}/"
    assert f"train {config.parent}/source.py {options}" in lines
    (adapt,) = [line for line in lines if line.startswith("train") and "lpld" in line]
    assert "lr=3 steps=2" in adapt
    refused = run(config, "--quick", "--page", "docs/results.md")
    assert refused.returncode == 2
    assert "numbers mean nothing" in refused.stderr


def test_what_cannot_be_written_is_said_before_anything_runs(config):
    page = config.parent / "page.md"
    page.write_text("no markers")
    done = run(config, "--page", page)
    assert done.returncode == 2
    assert "does not hold the pair <!-- results:toy -->" in done.stderr
    recorded = config.parent / "toy.json"
    record = dict(name="toy", metric="coco/AP50", seeds=[5], rows=[])
    for change, words in (({}, "has seeds [5]"), ({"name": "b"}, "has name b")):
        recorded.write_text(json.dumps(record | change))
        more = ("--rows", "source", "--add", "--seeds", "0")
        done = run(config, "--result", recorded, "--overwrite", *more)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
    recorded.write_text('{"rows": [{"name": "source", "evaluate": 3}]}')
    done = run(config, "--result", recorded, "--overwrite")
    assert "is no record of a table" in done.stderr
    assert not (config.parent / "calls").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere.py"], "The config nowhere.py does not exist"),
        (["{folder}/source.py"], "carries no `experiment`"),
        (["{folder}/table.py", "--rows", "lpdl"], "has no row 'lpdl'"),
    ],
)
def test_mistakes_are_two_lines(config, arguments, sentence):
    command = [sys.executable, str(ROOT / "tools" / "reproduce.py")]
    command += [argument.format(folder=config.parent) for argument in arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2
