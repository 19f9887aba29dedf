"""Another content, another file, another size: noticed; the run's own files are not."""

import json
import os
from pathlib import Path

import pytest
from mmengine.config import Config

from pld_mmdet.engine.state.data_print import (
    _bytes,
    data_print,
    other_data,
    refuse_other_data,
)
from pld_mmdet.errors import UserError
from tests.engine.processes import Tool
from tests.engine.toy import write_config


def tree(folder: Path) -> Path:
    """Five files, one of them in a folder of its own, and what is nobody's."""
    (folder / "data/deep").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.png", "c.png", "d.wav", "deep/e.txt")):
        (folder / "data" / name).write_bytes(bytes([number]) * (10 + number))
    (folder / "data/.cache").write_text("of a file manager")
    return folder / "data"


def config(folder: Path, **dataset) -> Config:
    inner = dict(type="X", data_root=str(folder / "data"), **dataset)
    return Config(
        dict(
            work_dir=str(folder / "run"),
            train_dataloader=dict(dataset=dict(type="Wrapper", dataset=inner)),
            val_dataloader=dict(dataset=inner),
            model=dict(type="Net", prompt="a.png", mode="data"),
        )
    )


def test_what_is_remembered_of_a_folder(tmp_path, monkeypatch):
    tree(tmp_path)
    monkeypatch.chdir(tmp_path)  # with a folder called as the model's mode
    cfg = config(tmp_path)
    (place,) = found = data_print(cfg)
    assert place == "train_dataloader.dataset.dataset.data_root"
    assert found[place]["count"] == 5
    assert {n: one[0] for n, one in found[place]["some"].items()} == {
        "a.png": 10,
        "b.png": 11,
        "c.png": 12,
        "d.wav": 13,
        "deep/e.txt": 14,
    }
    (tmp_path / "data/.cache").write_text("more")
    os.utime(tmp_path / "data/a.png", (1, 1))  # a copy is the same data
    assert data_print(cfg) == found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: (d / "new.png").touch(), "has 6 files and had 5"),
        (lambda d: (d / "b.png").unlink(), r"has 4 files and had 5 \(b.png is gone\)"),
        (lambda d: (d / "b.png").rename(d / "z.png"), "has 5 files and had 5"),
        (lambda d: (d / "d.wav").write_bytes(b"9" * 13), "1 of 5 .* example d.wav"),
    ],
)
def test_changes_of_a_folder(tmp_path, change, words):
    data, cfg = tree(tmp_path), config(tmp_path)
    before = data_print(cfg)
    change(data)
    with pytest.raises(UserError, match=words):
        refuse_other_data(before, data_print(cfg), "RUN")


def test_a_file_that_the_end_of_the_run_named_may_be_replaced(tmp_path):
    data, cfg = tree(tmp_path), config(tmp_path)
    before = data_print(cfg)
    (data / "b.png").write_bytes(b"copied again")
    assert other_data(before, data_print(cfg), "failed: b.png cannot be read") == ""
    (data / "c.png").write_bytes(b"and another")
    said = other_data(before, data_print(cfg), "failed: b.png cannot be read")
    assert "c.png" in said
    assert "b.png" not in said


def test_a_listed_folder_may_grow_and_its_list_may_not(tmp_path):
    data = tree(tmp_path)
    (data / "list.json").write_text("[1, 2]")
    cfg = config(tmp_path, ann_file="list.json", data_prefix=dict(img="deep"))
    before = data_print(cfg)
    dataset = "train_dataloader.dataset.dataset"
    assert [*before] == [f"{dataset}.ann_file", f"{dataset}.data_prefix.img"]
    (data / "deep/later.png").touch()
    assert other_data(before, data_print(cfg)) == ""
    (data / "list.json").write_text("[2, 1]")
    said = other_data(before, data_print(cfg))
    assert said == f"the file {data}/list.json has another content"
    (data / "deep/e.txt").unlink()
    assert "e.txt" in other_data(before, data_print(cfg))


def test_what_the_run_itself_writes_is_not_its_data(tmp_path):
    cfg = config(tmp_path)
    cfg.work_dir = str(tree(tmp_path) / "deep")
    assert data_print(cfg) == {}  # its folder lies in the data: nothing can be said
    cfg = config(tmp_path)
    cfg.model.answers = str(tmp_path / "run/answers.pt")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/answers.pt").touch()
    assert "model.answers" not in data_print(cfg)


def test_of_a_large_file_its_ends_and_its_size_count(tmp_path, monkeypatch):
    monkeypatch.setattr("pld_mmdet.engine.state.data_print._WHOLE", 2**20)
    path = tmp_path / "large"
    path.write_bytes(b"0" * (2**20 + 5))
    first = _bytes(str(path))
    with open(path, "r+b") as file:
        file.seek(2**20 + 4)
        file.write(b"1")
    second = _bytes(str(path))
    path.write_bytes(b"0" * (2**20 + 6))
    assert len({first, second, _bytes(str(path))}) == 3


def test_a_run_goes_on_with_its_own_data_only(tmp_path):
    data = tree(tmp_path)
    config, work, log = write_config(tmp_path), tmp_path / "run", tmp_path / "log"
    root = f"train_dataloader.dataset.dataset.data_root={data}"
    run = ["train", config, "--work-dir", work, "--cfg-options", root]
    Tool(*run, log=log).finish()
    assert list(json.loads((work / "data.json").read_text())) == [root.split("=")[0]]
    (data / "a.png").write_bytes(b"1234567890")
    record, weights = ((work / n).read_bytes() for n in ("run.json", "iter_12.pth"))
    longer = ["train_cfg.max_iters=18", "--resume"]
    said = Tool(*run, *longer, log=log).finish(2)
    assert "began with other data: 1 of 5 files looked at in" in said
    assert "Traceback" not in said
    assert (work / "run.json").read_bytes() == record
    assert (work / "iter_12.pth").read_bytes() == weights
    (data / "a.png").write_bytes(bytes(10))
    Tool(*run, *longer, log=log).finish()
    more = ["train_dataloader.dataset.dataset.length=23", "train_cfg.max_iters=24"]
    (work / "config.py").unlink()  # which would refuse another recipe first
    said = Tool(*run, *more, "--resume", log=log).finish(2)
    assert "began with 24 training samples, and the data set has 23 now" in said
