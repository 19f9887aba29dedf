"""The commands of docs/adapt.md are executed as they stand, on tiny detectors."""

import re
from pathlib import Path

import pytest
import torch

from pld_mmdet.adaptation.recipe import choose_recipe
from pld_mmdet.errors import UserError
from tests.adaptation import detectors
from tests.adaptation.tiny import (
    load_strictly,
    write_detector,
    write_images,
    write_labels,
)
from tests.detection.helpers import tiny_c4, tiny_cascade
from tests.docs.commands import ROOT, Command, commands
from tests.engine.processes import Tool, forked

PAGE = ROOT / "docs" / "adapt.md"
TEXT = PAGE.read_text(encoding="utf-8")
ADAPT = [c for c in commands(PAGE) if c.tool == "tools/adapt.py"]
# Which detector tries which command: none is built like another.
DETECTORS = {
    "": detectors.mask_rcnn,
    "--method mean_teacher": detectors.retinanet,
    "--method adabn": tiny_c4,
    "--val labels.json": tiny_cascade,
    "--watch": None,  # Faster R-CNN with FPN
}


class User:
    """A folder with a detector, images and labels, and what was typed in it."""

    def __init__(self, folder: Path, model: dict | None, images: int) -> None:
        self.folder = folder
        self.config, self.checkpoint = write_detector(folder / "detector", model)
        self.images = write_images(folder / "images", images)
        write_labels(folder / "labels.json")

    def types(self, command: Command, code: int = 0) -> str:
        """Type a command of the page with one's own paths; what it says."""
        places = dict(
            CONFIG=self.config,
            CHECKPOINT=self.checkpoint,
            IMAGES=self.images,
            OUT=self.out(command),
        )
        words = []
        for word in command.words:
            first, slash, rest = word.partition("/")
            words.append(f"{places.get(first, first)}{slash}{rest}")
        name = Path(command.tool).stem
        tool = Tool(name, *words, log=self.folder / "log", folder=self.folder)
        return tool.finish(code)

    def out(self, command: Command) -> Path:
        """Where the page says that everything goes."""
        method = dict(zip(command.words, command.words[1:], strict=False))
        (place,) = re.findall(r"`OUT` \(default `([^`]+)`", TEXT)
        place = place.replace("<config>", self.config.stem)
        return self.folder / place.replace("<method>", method.get("--method", "lpld"))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Types a command once; the user and what was said."""
    known: dict[Command, tuple[User, str]] = {}

    def of(command: Command) -> tuple[User, str]:
        if command not in known:
            options = " ".join(command.words[3:])
            make = DETECTORS[options]
            images = 8 if options in ("--method adabn", "--val labels.json") else 2
            user = User(tmp_path_factory.mktemp("user"), make and make(), images)
            known[command] = user, user.types(command)
        return known[command]

    return of


@pytest.mark.parametrize("command", ADAPT, ids=lambda c: " ".join(c.words[3:]))
def test_adapt_commands_do_what_they_say(command, done):
    assert command.words[:3] == ("CONFIG", "CHECKPOINT", "IMAGES")
    user, said = done(command)
    out = user.out(command)
    network, _ = load_strictly(user.config, out / "adapted.pth")
    source = torch.load(user.checkpoint, weights_only=True)["state_dict"]
    state = network.state_dict()
    assert any(not torch.equal(state[name], source[name]) for name in source)
    assert ("AP50 on your labelled images" in (out / "report.html").read_text()) == (
        "--val" in command.words
    )
    assert ("Watch:" in said) == ("--watch" in command.words)
    again = user.types(command, code=2)
    assert "already holds a run (finished)" in again
    assert "--resume" in again


def test_out_holds_what_the_table_says_and_repeats(done):
    (command,) = [c for c in ADAPT if len(c.words) == 3]
    user, _ = done(command)
    table = TEXT.partition("| file | what |")[2].partition("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    named = re.findall(r"`([\w.]+)`", " ".join(rows))
    assert len(named) >= 8
    out = user.out(command)
    assert [name for name in named if not (out / name).is_file()] == []
    (again,) = [c for c in commands(PAGE) if "OUT/config.py" in c.words]
    user.types(again)
    ours, theirs = (
        torch.load(next(folder.glob("iter_*.pth")), weights_only=True)["state_dict"]
        for folder in (out, user.folder / "AGAIN")
    )
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_function_for_notebooks(tmp_path, capfd):
    config, checkpoint = write_detector(tmp_path)
    config.rename(tmp_path / "config.py")
    checkpoint.rename(tmp_path / "detector.pth")
    write_images(tmp_path / "images", 2)
    (code,) = re.findall(r"```python\n(import pld_mmdet\n.*?)```", TEXT, re.DOTALL)
    assert forked(lambda: exec(code, {}), tmp_path) == 0
    made = "work_dirs/adapt/config_lpld/adapted.pth"
    assert made in capfd.readouterr().out
    load_strictly(tmp_path / "config.py", tmp_path / made)


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
