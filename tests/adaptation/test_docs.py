"""The commands of docs/adapt.md are executed as they stand, on tiny detectors."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch

import pld_mmdet
from pld_mmdet.adaptation import recipe
from pld_mmdet.adaptation.recipe import choose_recipe
from pld_mmdet.engine.state.files import write_json
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
from tests.engine.processes import Tool

PAGE = ROOT / "docs" / "adapt.md"
TEXT = PAGE.read_text(encoding="utf-8")
ADAPT = [c for c in commands(PAGE) if c.tool == "tools/adapt.py"]
# Which detector tries which command: none is built like another.
DETECTORS = {
    "": detectors.mask_rcnn,
    "--labels few.json": None,
    "--method lpld": tiny_cascade,
    "--method mean_teacher": detectors.retinanet,
    "--method adabn": tiny_c4,
    "--val labels.json": tiny_cascade,
    "--second-opinion boxes.json": None,  # Faster R-CNN with FPN
    "--second-opinion OTHER_CONFIG OTHER_CHECKPOINT": tiny_c4,
    "--watch": None,
}


class User:
    """A folder with a detector, images and labels, and what was typed in it."""

    def __init__(self, folder: Path, model: dict | None, images: int) -> None:
        self.folder = folder
        self.config, self.checkpoint = write_detector(folder / "detector", model)
        self.images = write_images(folder / "images", images)
        for name in ("labels", "few"):
            write_labels(folder / f"{name}.json", 1)
        row = dict(
            image_id="000.png", category_id="dog", bbox=[5, 5, 20, 20], score=0.9
        )
        write_json(folder / "boxes.json", [row])
        self.other = write_detector(folder / "other")

    def types(self, command: Command, code=(0, 3)) -> str:
        """Type a command of the page with one's own paths; what it says."""
        places = dict(
            CONFIG=self.config,
            CHECKPOINT=self.checkpoint,
            IMAGES=self.images,
            OUT=self.out(command),
            OTHER_CONFIG=self.other[0],
            OTHER_CHECKPOINT=self.other[1],
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
        return self.folder / place.replace("<method>", method.get("--method", "auto"))


@pytest.mark.parametrize("command", ADAPT, ids=lambda c: " ".join(c.words[3:]))
def test_adapt_commands_do_what_they_say(command, tmp_path, monkeypatch):
    """As they stand, only shorter (the processes are forked)."""
    monkeypatch.setattr(recipe, "MAX_PASSES", 10)
    assert command.words[:3] == ("CONFIG", "CHECKPOINT", "IMAGES")
    make = DETECTORS[" ".join(command.words[3:])]
    user = User(tmp_path, make and make(), 8)
    said = user.types(command)
    out = user.out(command)
    learned = (out / "adapted.pth").is_file()
    assert learned != ("Nothing was learned" in said)
    if learned:
        network, _ = load_strictly(user.config, out / "adapted.pth")
        source = torch.load(user.checkpoint, weights_only=True)["state_dict"]
        state = network.state_dict()
        if "lpld" not in command.words:  # its tiny detector is sure of nothing
            assert any(not torch.equal(state[name], source[name]) for name in source)
    page = (out / "report.html").read_text()
    assert ("AP50 (labels)" in page) == ("--val" in command.words)
    assert ("Watch:" in said) == ("--watch" in command.words)
    if "--labels" in command.words:
        missing = [name for name in files_of_the_table() if not (out / name).exists()]
        assert missing == ([] if learned else ["adapted.pth"])
    again = user.types(command, code=2)
    assert "already holds a run (finished)" in again
    assert "--resume" in again


def files_of_the_table() -> list[str]:
    """What the page says that OUT holds."""
    table = TEXT.partition("| file | what |")[2].partition("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    names = re.findall(r"`([\w.]+)`", " ".join(rows))
    assert len(names) >= 8
    return names


def test_function_for_notebooks(tmp_path, monkeypatch, capsys):
    """As it stands, only shorter."""
    config, checkpoint = write_detector(tmp_path)
    config.rename(tmp_path / "config.py")
    checkpoint.rename(tmp_path / "detector.pth")
    write_images(tmp_path / "images", 1)
    short = dict(iterations=2, evaluations=1, workers=0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pld_mmdet, "adapt", partial(pld_mmdet.adapt, **short))
    (code,) = re.findall(r"```python\n(import pld_mmdet\n.*?)```", TEXT, re.DOTALL)
    exec(code, {})
    said = capsys.readouterr().out
    assert "has fewer than 8 images" in said  # of one, nothing can be learned
    assert "Nothing was learned" in said
    assert "work_dirs/adapt/config_auto/report.html" in said


def test_example_line_is_what_the_rule_says():
    (example,) = re.findall(r"(Rule: 800 .*?)\n\n", TEXT, re.DOTALL)
    recipe = choose_recipe(800, 4, adabn=True)
    assert recipe.sentence() == " ".join(example.split())


def test_rule_by_hand():
    small = choose_recipe(2975, 1, 8)
    assert small.iterations == round(2 * 2975 / 8)
    assert small.lr == pytest.approx(2e-3)
    assert small.keep**small.iterations == pytest.approx(0.13)
    assert small.adabn_images == 0  # no batch norm
    assert choose_recipe(1_000_000, 4).iterations == 7500
    assert choose_recipe(1, 1).iterations == 50
    few = choose_recipe(20, 2, adabn=True)
    assert few.iterations == 500
    assert few.adabn_images == 20
    adam = choose_recipe(
        800, 4, head="sigmoid", optimizer="AdamW", source_lr=(2e-4, 16)
    )
    assert adam.lr == pytest.approx(5e-5)  # a half, then sqrt(4 / 16)
    assert adam.warm_up == 40
    sgd = choose_recipe(800, 4, source_lr=(0.02, 16))
    assert sgd.lr == pytest.approx(2.5e-3)  # a half, then 4 / 16
    assert adam.threshold == 0.25


def test_chosen_numbers_take_the_place_of_the_rules_and_the_others_follow():
    recipe = choose_recipe(800, 4, iterations=100, lr=0.5, threshold=0.3)
    assert (recipe.iterations, recipe.lr, recipe.threshold) == (100, 0.5, 0.3)
    assert recipe.keep**100 == pytest.approx(0.13)
    assert choose_recipe(800, 4, keep=0.5).keep == 0.5
    with pytest.raises(UserError, match="iterations=0"):
        choose_recipe(800, 4, iterations=0)
