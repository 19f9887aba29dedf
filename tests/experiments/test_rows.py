"""The job graph of a table: what runs before what, on which files."""

import json
from pathlib import Path

import pytest

from pld_mmdet.errors import UserError
from pld_mmdet.experiments.gates import read_gates
from pld_mmdet.experiments.graph import jobs_of
from pld_mmdet.experiments.jobs import JobGraph
from pld_mmdet.experiments.results import cells, collect
from pld_mmdet.experiments.rows import Experiment


@pytest.fixture
def few_shot(tmp_path):
    """Base -> (prepare) -> K shots -> online learning, with data of each seed."""
    for name in ("base", "shots", "online"):
        stem = "base" if name == "base" else "3shot_seed0"
        (tmp_path / f"{name}.py").write_text(
            "train_dataloader = dict(dataset=dict("
            f"data_root='data/toy/', ann_file='{stem}.json'))\n"
            f"test_evaluator = dict(ann_file='data/toy/{name}_test.json')\n"
        )
    shots = "train_dataloader.dataset.ann_file=3shot_seed{seed}.json"
    (tmp_path / "table.py").write_text(f"""
experiment = dict(
    name='toy', data=['python make.py toy', 'python more.py "two words"'],
    seed_data='python more.py --seed {{seed}}', metric='coco/AP50_novel',
    columns={{'novel': ('online', 'coco/AP50_novel'),
              'second pass': ('second_pass', 'coco/AP50_novel')}},
    quick=dict(data_args=['--train 9', '--root data/tiny'],
               seed_data_args='--root data/tiny',
               data_root=('data/toy/', 'data/tiny/')),
    rows=[
        dict(name='base', config='{tmp_path}/base.py', evaluate={{}}),
        dict(name='frozen', config='{tmp_path}/shots.py', init='base',
             prepare='python extend.py {{init}} {{out}} data/toy/3shot_seed0.json',
             options=['{shots}'], evaluate=dict(online=None)),
        dict(name='ps_ttl', config='{tmp_path}/online.py', init='frozen',
             options=['{shots}'], online='online', evaluate=dict(second_pass=None)),
    ])
""")
    return Experiment.load(str(tmp_path / "table.py"))


def test_a_prepared_checkpoint_stands_between_two_trainings(few_shot):
    jobs = {job.name: job for job in jobs_of(few_shot, [1], Path("out"))}
    prepare, train = jobs["seed_1/frozen/prepare"], jobs["seed_1/frozen/train"]
    file = Path("out/prepared/seed_1_frozen.pth")
    assert prepare.command[1:] == (
        "extend.py",
        "{last_checkpoint:out/seed_1/base}",
        str(file),
        "data/toy/3shot_seed0.json",
    )
    assert prepare.needs == ("data", "seed_1/data", "seed_1/base/train")
    assert prepare.outputs == (file,)
    assert prepare.name in train.needs
    assert f"load_from={file}" in train.command
    after = jobs["seed_1/ps_ttl/train"]
    assert "load_from={last_checkpoint:out/seed_1/frozen}" in after.command
    JobGraph(list(jobs.values()), Path("out"))  # no circle, no unknown need


def test_a_row_may_have_a_command_of_its_own(tmp_path):
    (tmp_path / "net.py").write_text("train_cfg = dict(max_iters=9)\n")
    (tmp_path / "table.py").write_text(f"""
experiment = dict(
    name='adapted', data='python make.py', metric='coco/AP50',
    quick=dict(data_root=('data/toy/', 'data/tiny/')),
    rows=[
        dict(name='source', config='{tmp_path}/net.py', evaluate={{}}),
        dict(name='mine', config='{tmp_path}/net.py', init='source',
             command="python adapt.py {{config}} {{init}} 'data/toy/a b' "
             "--seed {{seed}} --out {{out}}",
             checkpoint='adapted.pth', quick=['--iterations', '2'],
             evaluate=dict(fog=None)),
    ])
""")
    experiment = Experiment.load(str(tmp_path / "table.py"))
    for quick in (False, True):
        made = jobs_of(experiment, [3], Path("out"), quick)
        jobs = {job.name: job for job in made}
        job, test = jobs["seed_3/mine/train"], jobs["seed_3/mine/test_fog"]
        assert list(job.command[1:]) == [
            "adapt.py",
            f"{tmp_path}/net.py",
            "{last_checkpoint:out/seed_3/source}",
            "data/tiny/a b" if quick else "data/toy/a b",
            *("--seed", "3", "--out", "out/seed_3/mine"),
            *(("--iterations", "2") if quick else ()),
        ]
        folder = Path("out/seed_3/mine")
        assert job.outputs == (folder / "run.json", folder / "adapted.pth")
        assert job.resume == ("--resume",)
        assert job.needs == ("data", "seed_3/source/train")
        assert str(folder / "adapted.pth") in test.command
        assert "--iterations" not in test.command


def test_what_was_prepared_may_be_tested_as_it_is(tmp_path):
    (tmp_path / "net.py").write_text("train_cfg = dict(max_iters=9)\n")
    text = f"""
experiment = dict(
    name='mean', data='python make.py', metric='accuracy',
    rows=[
        dict(name='net', config='{tmp_path}/net.py', evaluate={{}}),
        dict(name='mean', config='{tmp_path}/net.py', init='net', trained=False,
             prepare='python export.py {{init}} {{out}}', evaluate=dict(test=None)),
    ])
"""
    (tmp_path / "table.py").write_text(text)
    experiment = Experiment.load(str(tmp_path / "table.py"))
    jobs = {job.name: job for job in jobs_of(experiment, [3], Path("out"))}
    assert set(jobs) == {
        "data",
        "seed_3/net/train",
        "seed_3/mean/prepare",
        "seed_3/mean/test_test",
    }
    test = jobs["seed_3/mean/test_test"]
    assert test.needs == ("seed_3/mean/prepare",)
    assert "out/prepared/seed_3_mean.pth" in test.command
    for wrong in ("prepare='python export.py {init} {out}',", "init='net',"):
        assert wrong in text
        (tmp_path / "table.py").write_text(text.replace(wrong, ""))
        with pytest.raises(UserError, match=r"mean of .* has nothing to train"):
            Experiment.load(str(tmp_path / "table.py"))


def test_options_that_a_command_would_not_read_are_refused(tmp_path):
    (tmp_path / "table.py").write_text("""
experiment = dict(name='a', rows=[
    dict(name='mine', config='x.py', command='python adapt.py', options=['a=1'])])
""")
    with pytest.raises(UserError, match="options that nothing would read"):
        Experiment.load(str(tmp_path / "table.py"))


def test_the_seed_chooses_data_and_options(few_shot):
    jobs = {job.name: job for job in jobs_of(few_shot, [0, 2], Path("out"))}
    assert jobs["data"].command[:2] == ("sh", "-c")
    script = jobs["data"].command[2]
    assert script.endswith("more.py 'two words'")
    assert "make.py toy && " in script
    # That a test of theirs would train on seed 0's shots asks nobody to make them.
    files = [f"data/toy/{n}.json" for n in ("base", "base_test", "online_test")]
    files += ["data/toy/shots_test.json"]
    assert jobs["data"].outputs == tuple(map(Path, files))
    own = jobs["seed_2/data"]
    assert own.command[1:] == ("more.py", "--seed", "2")
    assert own.outputs == (Path("data/toy/3shot_seed2.json"),)
    for seed in (0, 2):
        train = jobs[f"seed_{seed}/frozen/train"]
        option = f"train_dataloader.dataset.ann_file=3shot_seed{seed}.json"
        assert option in train.command
        assert f"3shot_seed{seed}.json" in train.key
        test = jobs[f"seed_{seed}/frozen/test_online"]
        assert not any("ann_file" in word for word in test.command)


def test_without_quick_lengths_a_config_walks(tmp_path):
    """Its data and batches; stages keep their zero, no other is longer than two."""
    walk = "walk = ['train_cfg.stages.0.max_iters=7', 'train_dataloader.batch_size=3',"
    (tmp_path / "toy.py").write_text(f"""
train_cfg = dict(stages=[dict(max_iters=90), dict(max_iters=40), dict(max_iters=1)])
train_dataloader = dict(batch_size=8, dataset=dict(root='whole'))
{walk} 'train_dataloader.dataset.root=few', 'train_dataloader.dataset.size=5']
walk_data = 'python make.py few'
experiment = dict(
    name='toy', data='python make.py whole', metric='accuracy',
    rows=[
        dict(name='late', config='{tmp_path}/toy.py', online='curve',
             options=['train_cfg.stages.0.max_iters=0', 'a=1'], evaluate={{}}),
        dict(name='plain', config='{tmp_path}/plain.py', evaluate={{}}),
    ])
""")
    (tmp_path / "plain.py").write_text("""
_base_ = 'toy.py'
train_cfg = dict(_delete_=True, max_iters=90)
""")
    experiment = Experiment.load(str(tmp_path / "toy.py"))
    made = {job.name: job for job in jobs_of(experiment, [5], Path("out"), quick=True)}
    assert made["data"].command[1:] == ("make.py", "few")
    few = ["train_dataloader.batch_size=3", "train_dataloader.dataset.root=few"]
    late, plain = (made[f"seed_5/{name}/train"] for name in ("late", "plain"))
    given = late.command[late.command.index("--cfg-options") + 1 :]
    assert list(given) == [
        *(*few, "train_dataloader.dataset.size=5"),
        *("train_cfg.stages.0.max_iters=0", "a=1", "train_cfg.stages.1.max_iters=2"),
    ]
    given = plain.command[plain.command.index("--cfg-options") + 1 :]
    assert list(given) == [*few, "train_cfg.max_iters=2"]
    assert late.outputs == (Path("out/seed_5/late/run.json"),)
    whole = {job.name: job for job in jobs_of(experiment, [5], Path("out"))}
    assert whole["data"].command[1:] == ("make.py", "whole")
    assert Path("out/seed_5/late/online.json") in whole["seed_5/late/train"].outputs
    text = (tmp_path / "toy.py").read_text()
    (tmp_path / "toy.py").write_text(text.replace(walk, "unused = ["))
    made = jobs_of(
        Experiment.load(str(tmp_path / "toy.py")), [5], Path("out"), quick=True
    )
    assert made[0].command[1:] == ("make.py", "whole")


def test_one_more_seed_changes_no_other(few_shot):
    before = JobGraph(jobs_of(few_shot, [0], Path("out")), Path("out")).fingerprints
    after = JobGraph(jobs_of(few_shot, [0, 1], Path("out")), Path("out")).fingerprints
    assert before.items() < after.items()


def test_quick_moves_every_command(few_shot):
    jobs = {job.name: job for job in jobs_of(few_shot, [0], Path("out"), quick=True)}
    assert "make.py toy --train 9 && " in jobs["data"].command[2]
    assert jobs["data"].command[2].endswith("--root data/tiny")
    assert jobs["seed_0/data"].command[-1] == "data/tiny"
    assert "data/tiny/3shot_seed0.json" in jobs["seed_0/frozen/prepare"].command


def test_online_numbers_come_from_the_run_itself(few_shot, tmp_path):
    jobs = {job.name: job for job in jobs_of(few_shot, [0], tmp_path)}
    folder = tmp_path / "seed_0/ps_ttl"
    assert folder / "online.json" in jobs["seed_0/ps_ttl/train"].outputs
    folder.mkdir(parents=True)
    run = dict(command="python tools/train.py x", commit="abc", minutes=2.0)
    (folder / "run.json").write_text(json.dumps(run))
    for name, value in (
        ("online.json", 0.5),
        ("metrics_second_pass.json", 0.6),
        ("pseudo_truth.json", 0.7),
    ):
        content = dict(metrics={"coco/AP50_novel": value})
        (folder / name).write_text(json.dumps(content))
    result = collect(few_shot, [0], tmp_path, {})
    row = result["rows"][2]
    assert list(row["evaluate"]) == ["online", "second_pass"]
    assert row["evaluate"]["online"]["mean"]["coco/AP50_novel"] == 0.5
    assert row["evaluate"]["online"]["commands"] == {"0": "python tools/train.py x"}
    assert row["pseudo"]["mean"]["coco/AP50_novel"] == 0.7
    assert "guard" not in row
    assert "frozen, online, seed 0: not tested yet" in result["missing"]
    head, body = cells(result)
    assert head == ["", "novel", "second pass", "minutes", "MB"]
    assert body[2] == ["ps_ttl", "50.0", "60.0", "2.0", "0"]


def test_the_guards_windows_are_counted(few_shot, tmp_path):
    """Of four windows one has a sign and another a probe that only warns."""
    windows = [
        dict(signs=[]),
        dict(signs=[], lost=[], kept=0.9),
        dict(signs=["boxes"], lost=[], kept=0.8),
        dict(signs=[], lost=["38 of 50"], kept=0.76),
    ]
    for seed, part in ((0, windows), (3, windows[:1])):
        folder = tmp_path / f"seed_{seed}/ps_ttl"
        folder.mkdir(parents=True)
        (folder / "guard.json").write_text(json.dumps(dict(windows=part)))
    result = collect(few_shot, [0, 3], tmp_path, {})
    guard = result["rows"][2]["guard"]
    assert guard["seeds"]["0"] == dict(windows=4, alarms=2, least_kept=0.76)
    assert guard["mean"] == dict(windows=2.5, alarms=1)
    gate = dict(title="T", row="ps_ttl", on="guard", metric="alarms", at_most=0)
    (gate,) = read_gates([gate], ["ps_ttl"])
    assert gate.value(result) == 1


def test_a_trivial_rival_is_one_line_and_one_job(tmp_path):
    (tmp_path / "mine.py").write_text("""
experiment = dict(
    name='toy', metric='accuracy',
    rows=[
        dict(name='mine'),
        dict(name='raw', baseline=dict(type='raw_input', c=0.1, key='view'),
             options=['a.seed={seed}'], evaluate=dict(fog='fog.py', test=None)),
        dict(name='still', options=['lr=0'], trivial=True),
    ])
""")
    (tmp_path / "fog.py").write_text("a = dict(seed=0)\n")
    text = (tmp_path / "mine.py").read_text()
    fog = str(tmp_path / "fog.py")
    (tmp_path / "mine.py").write_text(text.replace("'fog.py'", repr(fog)))
    found = Experiment.load(str(tmp_path / "mine.py"))
    assert [row.trivial for row in found.rows] == [False, True, True]
    jobs = {job.name: job for job in jobs_of(found, [4], Path("out"))}
    assert [name for name in jobs if "/raw/" in name] == ["seed_4/raw/train"]
    job = jobs["seed_4/raw/train"]
    folder = Path("out/seed_4/raw")
    names = ("run.json", "metrics_fog.json", "metrics_test.json")
    assert job.outputs == tuple(folder / name for name in names)
    assert job.command[1:] == (
        "tools/baseline.py",
        str(tmp_path / "mine.py"),
        "raw_input",
        "--seed",
        "4",
        "--work-dir",
        str(folder),
        "--set",
        "c=0.1",
        'key="view"',
        "--tests",
        f"fog={fog}",
        "test",
        "--cfg-options",
        "a.seed=4",
    )
    (tmp_path / "bad.py").write_text(
        "experiment = dict(name='x', rows=[dict(name='raw', baseline='kmeans', "
        "init='a'), dict(name='a')])\n"
    )
    with pytest.raises(UserError, match="reads no command or init"):
        Experiment.load(str(tmp_path / "bad.py"))


def test_the_tested_network_is_the_rows(tmp_path):
    """A row that is scored as something else than it says was once a silent wrong."""
    (tmp_path / "x.py").write_text(
        """
model = dict(predict_on='student', width=3)
train_cfg = dict(max_iters=9)
experiment = dict(name='x', rows=[
    dict(name='teacher', options=['model.predict_on=teacher', 'train_cfg.max_iters=7'],
         evaluate=dict(a=None, b=['model.width=5'], c='other.py'))])
"""
    )
    (tmp_path / "other.py").write_text("model = dict(predict_on='mix')\n")
    experiment = Experiment.load(str(tmp_path / "x.py"))
    experiment.rows[0].evaluate["c"] = str(tmp_path / "other.py")
    jobs = {job.name: job.command for job in jobs_of(experiment, [4], tmp_path / "out")}
    said = {
        label: [w for w in jobs[f"seed_4/teacher/test_{label}"] if "=" in w]
        for label in "abc"
    }
    assert said == {
        "a": ["model.predict_on=teacher"],
        "b": ["model.predict_on=teacher", "train_cfg.max_iters=7", "model.width=5"],
        "c": [],
    }
