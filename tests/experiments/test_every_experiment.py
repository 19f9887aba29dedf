"""Every experiment of this checkout makes a graph, at full length and with --quick."""

import re
from functools import cache
from pathlib import Path

import pytest

from pld_mmdet.engine.config.configs import read_config
from pld_mmdet.errors import UserError
from pld_mmdet.experiments.graph import jobs_of
from pld_mmdet.experiments.rows import Experiment
from pld_mmdet.places import home

ROOT = Path(home())
STATED = re.compile(r"^experiment\s*=", re.MULTILINE)


def stated() -> list[str]:
    """Configs that write an experiment themselves, not those that inherit one."""
    files = sorted((ROOT / "configs").rglob("*.py"))
    return [
        str(file.relative_to(ROOT))
        for file in files
        if STATED.search(file.read_text(encoding="utf-8"))
    ]


@cache
def graph(config: str, quick: bool) -> list:
    """The jobs of seed 10; not to be changed."""
    return jobs_of(Experiment.load(config), [10], Path("out"), quick)


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("config", stated())
def test_both_lengths_make_a_graph(config):
    real, quick = graph(config, False), graph(config, True)
    assert [job.name for job in real] == [job.name for job in quick]
    assert all(job.outputs for job in real if job.name != "data")
    if Experiment.load(
        config
    ).seed_data:  # so no job is asked for the files of another seed
        files = " ".join(str(path) for job in real for path in job.outputs)
        assert set(re.findall(r"(?:_seed|train\.)(\d+)", files)) == {"10"}


def test_a_config_that_only_inherits_a_table_is_told_whose_it_is():
    experiment = Experiment.load("configs/dmae/long.py")
    with pytest.raises(
        UserError, match=r"dmae/long\.py has no place .*stages\.1\.max_iters=2040"
    ):
        jobs_of(experiment, [0], Path("out"))


def lengths(job) -> list[int]:
    """Iterations that the options of a training name last, one a stage."""
    found = dict(re.findall(r"(train_cfg\S*max_iters)=(\d+)", " ".join(job.command)))
    return [int(number) for number in found.values()]


@pytest.mark.parametrize("config", stated())
def test_quick_is_short(config):
    """Twelve iterations at most, whatever a row says of its own length.

    Where no length is named, the loop reads its data once, of which there are few.
    """
    for job in graph(config, True):
        if "tools/train.py" in job.command:
            short = lengths(job)
            assert max(short, default=0) <= 12, job.name
            loop = read_config(job.command[2]).train_cfg.get(
                "type", "IterBasedTrainLoop"
            )
            assert short or loop.endswith(("OnlineLoop", "AdaBNLoop")), job.name


def test_no_two_experiments_draw_different_scenes_into_one_folder():
    drawn = {}
    for config in stated():
        for quick in (False, True):
            made = [job for job in graph(config, quick) if job.name == "data"]
            words = " ".join(word for job in made for word in job.command)
            for command in words.split("&&"):
                asked = dict(
                    re.findall(r"--(\w+) ([\w/]+)", command)
                )  # last one counts
                if "prepare.py foggy" in command and (root := asked.pop("root", None)):
                    assert drawn.setdefault(root, asked) == asked, (root, config)
    assert {"data/foggy_streets_3200", "data/street_maps"} <= set(drawn)
