"""tools/sample.py: pictures by value, classes, steps, and what is never lost."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from pld_mmdet.diffusion.processes.levels import evenly
from pld_mmdet.diffusion.sampling import samples
from pld_mmdet.engine.run.method import Method
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from tests.tools.test_bad_input import call, sentence
from tests.toy_run import toy_config, train


@MODELS.register_module(force=True)
class SaysItsOrders(Method):
    """Pictures of 1 x 2 pixels: the noise's number and the class, each over 10."""

    def __init__(self, num_classes=0, channels=1, **_):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.num_classes, self.channels, self.steps = num_classes, channels, 0

    def in_steps(self, count):
        self.steps = count

    def predict(self, inputs, index, targets=None):
        labels = torch.zeros(len(index)) if targets is None else targets
        pair = torch.stack([index % 2**20, labels], 1) / 10
        pictures = pair.view(-1, 1, 1, 2).expand(-1, self.channels, -1, -1)
        return [{"samples": pictures, "references": inputs}]


ORDERS = "model = dict(type='pld_mmdet.SaysItsOrders', num_classes=3)"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run's folder, whose config is read without being run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.py").write_text(ORDERS)
    torch.save({"state_dict": {"weight": torch.zeros(1)}}, tmp_path / "last.pth")
    return tmp_path


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def pixels(path):
    return np.asarray(Image.open(path)).tolist()


def test_pictures_by_value(run, capsys):
    shape = ("--shape", 1, 1, 2, "--range", 0, 1, "--batch", 2)
    assert call("sample", "last.pth", "--out", "a", "--count", 5, *shape) == 0
    assert "a: 5 samples, " in capsys.readouterr().out
    singles = [f"00{n}.png" for n in range(1, 6)]
    assert files(run / "a") == [*singles, "grid.png", "samples.json"]
    # numbers 0 to 4, classes in turn: (3 / 10, 0), (4 / 10, 1 / 10) of white
    assert pixels(run / "a/004.png") == [[76, 0]]  # 76.5 goes to the even one
    assert pixels(run / "a/005.png") == [[102, 26]]
    grid = np.asarray(Image.open(run / "a/grid.png"))
    assert grid.shape == (2 * 2, 3 * 3, 3)  # 3 columns, white lines between
    assert grid[2, 3:5, 0].tolist() == [102, 26]
    assert grid[2, 6:8, 0].tolist() == [255, 255]  # there is no sixth
    told = json.loads((run / "a/samples.json").read_text())
    assert told["files"] == [*singles, "grid.png"]
    assert (told["method"], told["seed"]) == ("SaysItsOrders", 0)
    # without --range black is -1
    line = ("--shape", 1, 1, 2, "--class", 2, "-n", 1)
    assert call("sample", "last.pth", "--out", "b", *line) == 0
    assert pixels(run / "b/001.png") == [[128, 153]]


def test_nothing_is_lost(run, capsys):
    line = ("last.pth", "--out", "a", "--shape", 1, 1, 2)
    assert call("sample", *line, "-n", 12) == 0
    before = {name: (run / "a" / name).read_bytes() for name in files(run / "a")}
    said = sentence(capsys, "sample", *line, "-n", 2)
    assert "holds files already" in said
    assert {
        name: (run / "a" / name).read_bytes() for name in files(run / "a")
    } == before
    (run / "a/mine.txt").write_text("mine")
    assert call("sample", *line, "-n", 2, "--overwrite") == 0
    kept = ["001.png", "002.png", "grid.png", "mine.txt", "samples.json"]
    assert files(run / "a") == kept  # the other ten are gone, mine is not
    # the run's own folder, and one of pictures that are no samples
    said = sentence(
        capsys, "sample", "last.pth", "--out", ".", "--overwrite", *line[3:]
    )
    assert "no samples.json" in said
    (run / "data").mkdir()
    (run / "data/001.png").write_text("a photograph")
    for more in ((), ("--overwrite",)):
        sentence(capsys, "sample", "last.pth", "--out", "data", *line[3:], *more)
    assert (run / "data/001.png").read_text() == "a photograph"
    # a record that names other files takes none of them away
    (run / "a/samples.json").write_text('{"files": ["mine.txt", "../last.pth"]}')
    assert call("sample", *line, "-n", 1, "--overwrite") == 0
    assert (run / "a/mine.txt").read_text() == "mine"
    assert (run / "last.pth").is_file()


def test_what_cannot_be_drawn_is_a_sentence(run, capsys):
    line = ("last.pth", "--out", "a", "--shape", 1, 1, 2)
    assert "classes 0 to 2" in sentence(capsys, "sample", *line, "--class", 3)
    said = sentence(capsys, "sample", "last.pth", "--out", "a")
    assert "has no data" in said
    assert "black is white" in sentence(capsys, "sample", *line, "--range", 1, 1)
    (run / "config.py").write_text(ORDERS.replace("num_classes=3", "channels=4"))
    assert "4 channels: latents" in sentence(capsys, "sample", *line)
    assert "no classes" in sentence(capsys, "sample", *line, "--class", 0)
    (run / "config.py").unlink()
    assert "with --config" in sentence(capsys, "sample", *line)
    assert not (run / "a").exists()


def test_steps_seeds_and_data(run):
    model = SaysItsOrders(num_classes=3)
    batches = list(
        samples.drawn(model, None, samples.Wanted(3, 2, steps=7, shape=(1,)))
    )
    assert model.steps == 7
    assert [len(batch) for batch in batches] == [2, 1]
    told = []
    model.predict = lambda **batch: told.append(batch) or [{"samples": batch["inputs"]}]
    data = [dict(inputs=torch.tensor([k + 0.5]), targets=k, index=k) for k in range(2)]
    found = torch.cat(list(samples.drawn(model, data, samples.Wanted(3, 2, seed=5))))
    assert found.tolist() == [[0.5], [1.5], [0.5]]
    assert [batch["targets"].tolist() for batch in told] == [[0, 1], [0]]
    first = 5 * 2**20
    assert [batch["index"].tolist() for batch in told] == [
        [first, first + 1],
        [first + 2],
    ]
    list(samples.drawn(model, data, samples.Wanted(2, 2, label=2)))
    assert told[-1]["targets"].tolist() == [2, 2]
    model.predict = lambda **batch: [{"logits": batch["inputs"]}]
    with pytest.raises(UserError, match="SaysItsOrders makes no samples"):
        list(samples.drawn(model, data, samples.Wanted(1, 1)))


def test_black_and_white_follow_the_normalisation():
    data = SimpleNamespace(mean=torch.tensor([0.5, 0.25]), std=(0.5, 0.125))
    black, white = samples.value_range(data)
    assert black.tolist() == [-1.0, -2.0]
    assert white.tolist() == [1.0, 6.0]
    assert [edge.tolist() for edge in samples.value_range(object())] == [[0.0], [1.0]]
    assert [edge.item() for edge in samples.value_range(None)] == [-1, 1]


def test_levels_of_few_calls():
    assert evenly(4, 1000) == (999, 749, 499, 249)  # of SDXL's generator
    assert evenly(1, 1000) == (999,)
    assert evenly(3, 10) == (9, 6, 2)
    for count in (0, 11):
        with pytest.raises(UserError, match=f"{count} steps cannot be taken in 10"):
            evenly(count, 10)


TOYS = {
    "ict": ("samples.txt", 2),
    "dmd2": ("samples.txt", 4),
    "boot": ("samples.txt", 1),
    "rg_lcd": ("samples.txt", 3),
    "yonos_sr": ("003.png", 3),
    "lsd": ("samples.txt", None),
}


@pytest.mark.parametrize("stem", TOYS)
def test_a_run_of_each_kind(stem, tmp_path, capsys):
    train(toy_config(f"configs/{stem}/toy.py", tmp_path / "run"))
    name, steps = TOYS[stem]
    line = (tmp_path / "run/last.pth", "-n", 3, "--seed", 4)
    for out, more in (("a", ()), ("b", ()), ("c", ("--steps", steps))):
        more = () if steps is None else more
        assert call("sample", *line, "--out", tmp_path / out, *more) == 0
    assert (tmp_path / "a/grid.png").is_file()
    contents = [(tmp_path / out / name).read_bytes() for out in "abc"]
    assert contents[0] == contents[1]  # the same seed
    own = {"lsd": True, "boot": True}.get(stem, False)
    assert (contents[0] == contents[2]) is own
    if name == "samples.txt":
        assert len(contents[0].splitlines()) == 3
    wrong = {"ict": 3, "boot": 2, "lsd": 2, "dmd2": 10**6}.get(stem)
    if wrong is not None:
        sentence(capsys, "sample", *line, "--out", tmp_path / "d", "--steps", wrong)
