"""The commands of docs/adapt.md: all are understood, the quick one is executed."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from pld_mmdet.adaptation.recipe import choose_recipe
from pld_mmdet.errors import UserError
from tests.adaptation.tiny import load_strictly, write_detector, write_images

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "adapt.md").read_text(encoding="utf-8")
COMMANDS = [
    line.partition(" #")[0].split()
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_command_is_understood(command, monkeypatch):
    monkeypatch.setattr(sys, "argv", command[1:])
    arguments = runpy.run_path(str(ROOT / command[1]))["parse_args"]()
    assert arguments.images == "IMAGES"


def test_quick_command_is_executed_as_it_stands(tmp_path):
    (command,) = [c for c in COMMANDS if "adabn" in c]
    config, checkpoint = write_detector(tmp_path / "d")
    images = write_images(tmp_path / "images", 8)
    places = dict(CONFIG=config, CHECKPOINT=checkpoint, IMAGES=images, python="")
    filled = [str(places.get(word, word)) for word in command][1:]
    filled[0] = str(ROOT / filled[0])
    done = subprocess.run(
        [sys.executable, *filled], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    load_strictly(config, tmp_path / "work_dirs/adapt/stock_adabn/adapted.pth")
    again = subprocess.run(
        [sys.executable, *filled], cwd=tmp_path, capture_output=True, text=True
    )
    assert again.returncode == 2
    error, fix = again.stderr.strip().splitlines()[-2:]
    assert "already holds a run" in error
    assert "--resume" in fix


def test_example_line_is_what_the_rule_says():
    (example,) = re.findall(r"(Rule: 800 .*?)\n\n", TEXT, re.DOTALL)
    recipe = choose_recipe(800, 4, batch_norms=20)
    assert recipe.sentence() == " ".join(example.split())


def test_rule_by_hand():
    small = choose_recipe(2975, 1, 8)
    assert small.iterations == round(2 * 2975 / 8)
    assert small.lr == pytest.approx(2e-3)
    assert small.keep**small.iterations == pytest.approx(0.13)
    assert small.adabn_images == 0  # no batch norm
    assert choose_recipe(1_000_000, 4).iterations == 7500
    assert choose_recipe(1, 1).iterations == 50
    few = choose_recipe(20, 2, batch_norms=1)
    assert few.iterations == 500
    assert few.adabn_images == 20
    adam = choose_recipe(
        800, 4, head="sigmoid", optimizer="AdamW", source_lr=(2e-4, 16)
    )
    assert adam.lr == pytest.approx(1e-5)  # a tenth, then sqrt(4 / 16)
    assert adam.warm_up == 20
    assert adam.threshold == 0.4


def test_chosen_numbers_take_the_place_of_the_rules_and_the_others_follow():
    recipe = choose_recipe(800, 4, iterations=100, lr=0.5, threshold=0.3)
    assert (recipe.iterations, recipe.lr, recipe.threshold) == (100, 0.5, 0.3)
    assert recipe.keep**100 == pytest.approx(0.13)
    assert choose_recipe(800, 4, keep=0.5).keep == 0.5
    with pytest.raises(UserError, match="iterations=0"):
        choose_recipe(800, 4, iterations=0)
