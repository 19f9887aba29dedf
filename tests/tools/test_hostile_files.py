"""Files that are no files, in every place where a tool reads one: two lines, code 2.

The tools are called in this process; a pipe that blocked one would end the test.
"""

import contextlib
import gzip
import os
import signal

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from tests.helpers import tiny_faster_rcnn
from tests.tools.test_bad_input import call, sentence

BOX = '{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": %s}'
COCO = (
    '{"images": [{"id": 1, "file_name": "a.png", "width": 9, "height": 9}], '
    '"categories": [{"id": 1, "name": "car"}], "annotations": [' + BOX + "]%s}"
)
CONTENTS = {
    "empty": b"",
    "binary": b"\x89PNG\r\n\x1a\n\x00\x01\xff\xfe",
    "latin-1": COCO.replace("car", "Stra\xdfe").encode("latin-1"),
    "utf-16": COCO.encode("utf-16"),
    "half a gzip": gzip.compress((COCO % ("12", "")).encode())[:-9],
    "NaN": (COCO % ("NaN", "")).encode(),
    "above all floats": (COCO % ("1e999", "")).encode(),
    "a key twice": (COCO % ("12", ', "images": []')).encode(),
    "deep": b"[" * 100_000,
    "a number of 5000 digits": b"[" + b"7" * 5000 + b"]",
    "null": b"null",
}
JSON = {
    "no box": (COCO % ("12", "")).replace("[1, 2, 3, 4]", "null").encode(),
    "corners in words": (COCO % ("12", "")).replace("[1, 2,", '["1", 2,').encode(),
    "an unknown class": (COCO % ("12", ""))
    .replace('ory_id": 1', 'ory_id": 9')
    .encode(),
    "an unknown image": (COCO % ("12", ""))
    .replace('age_id": 1', 'age_id": 9')
    .encode(),
    "no size": (COCO % ("12", "")).replace('"width": 9', '"width": 0').encode(),
}
PLACES = ("pipe", "loop", "nowhere", "folder")


def hostile(path, kind: str) -> None:
    """Put something of a kind at a path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "nowhere":
        path.symlink_to(path.with_name("gone"))
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes((CONTENTS | JSON)[kind])


@contextlib.contextmanager
def seconds(most: int):
    """Whatever blocks for longer is an error."""

    def late(*_):
        raise AssertionError("it waits for something")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(most)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


DATA = dict(
    type="CocoDataset",
    data_root="",
    data_prefix=dict(img=""),
    metainfo=dict(classes=("car",)),
)
DATA_CONFIG = dict(
    train_dataloader=dict(dataset=dict(DATA)), val_dataloader=dict(dataset=dict(DATA))
)
TABLE = dict(
    name="toy",
    train="false",
    test="false",
    rows=[dict(name="a", config="{config}", evaluate=dict(fog=None))],
)
# Where the file stands and the tool's command line around it.
READS = {
    "fewshot classes": (
        "x.json",
        ["make_fewshot", "extend", "{w}", "{out}", "--classes", "{x}"],
    ),
    "fewshot root": (
        "root/annotations/train.json",
        ["make_fewshot", "streets", "--root", "{root}"],
    ),
    "ov root": (
        "root/annotations/train.json",
        ["make_ov_coco", "streets", "--root", "{root}"],
    ),
    "clip names": (
        "x.json",
        "make_clip_candidates text --clip c --ann {x} --out {out}",
    ),
    "clip proposals": (
        "x.json",
        (
            "make_clip_candidates boxes --clip c --ann {coco} --out {out} --novel car "
            "--images {root} --proposals {x}"
        ),
    ),
    "data": ("x.json", ["check_data", "{config}", "--fast"]),
    "data checkpoint": (
        "x.pth",
        ["check_data", "{good}", "--fast", "--checkpoint", "{x}"],
    ),
    "export": ("x.pth", ["export", "{x}", "{out}"]),
    "export config": ("x.py", ["export", "{w}", "{out}", "--config", "{x}"]),
    "detectron2": ("x.pkl", ["convert_detectron2", "{x}", "{good}", "{out}"]),
    "recorded scores": (
        "root/scores.jsonl",
        ["score_checkpoints", "{root}", "--recorded"],
    ),
    "report": ("root/result.json", ["report", "{root}"]),
    "reproduce": ("x.py", ["reproduce", "{x}", "--out", "{root}"]),
    "kitti": (
        "root/training/label_2/1.txt",
        ["prepare", "kitti", "--root", "{root}"],
    ),
    "bdd100k": (
        "root/labels/bdd100k_labels_images_train.json",
        ["prepare", "bdd100k", "--root", "{root}"],
    ),
    "measure ann": ("x.json", "measure_pseudo_labels {good} {w} --ann {x}"),
    "measure truth": ("x.json", "measure_pseudo_labels {good} {w} --truth {x}"),
    "browse images": ("x.png", "browse_pseudo_labels {good} {w} {x} --out {out}"),
    "watch": ("x", "watch {x}"),
    "record": ("x.json", "reproduce {table} --out {out} --result {x}"),
    "page": ("x.md", "reproduce {table} --out {out} --page {x}"),
    "measure": ("x.py", ["measure_pseudo_labels", "{x}", "{w}"]),
    "browse": ("x.pth", ["browse_pseudo_labels", "{good}", "{x}", "{root}"]),
}


RIGHT = {
    ("watch", "folder"),  # would be watched
    *(("record", kind) for kind in ("loop", "nowhere")),  # a file takes their place
    *(("record", kind) for kind in JSON),  # tables are no annotations
}


def tried():
    for read, (name, _) in READS.items():
        for kind in (*PLACES, *CONTENTS, *(JSON if name.endswith("json") else ())):
            if (read, kind) not in RIGHT:
                yield read, kind


@pytest.mark.parametrize(("read", "kind"), tried())
def test_what_is_no_file_is_two_lines(read, kind, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "chdir", lambda path: None)  # reproduce goes to the root
    name, line = READS[read]
    line = line.split() if isinstance(line, str) else line
    (tmp_path / "root").mkdir()
    path = tmp_path / name
    hostile(path, kind)
    weights = {"state_dict": {"a": torch.zeros(2)}}
    weights["meta"] = {"dataset_meta": {"classes": ("car",)}}
    torch.save(weights, tmp_path / "w.pth")
    image = tmp_path / "root/training/image_2/1.png"
    image.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(image), np.zeros((9, 9, 3), np.uint8))
    (tmp_path / "coco.json").write_text(COCO % ("12", ""))
    for config, ann in (("config.py", path), ("good.py", tmp_path / "coco.json")):
        cfg = Config(DATA_CONFIG)
        cfg.train_dataloader.dataset.ann_file = str(ann)
        cfg.val_dataloader.dataset.ann_file = str(ann)
        cfg.model = dict(type="pld_mmdet.LPLD", detector=tiny_faster_rcnn())
        cfg.dump(tmp_path / config)
    cfg = Config(dict(experiment=TABLE))
    cfg.experiment.rows[0].config = str(tmp_path / "good.py")
    cfg.dump(tmp_path / "table.py")
    fill = dict(
        x=path,
        table=tmp_path / "table.py",
        root=tmp_path / "root",
        out=tmp_path / "out",
        w=tmp_path / "w.pth",
        coco=tmp_path / "coco.json",
        config=tmp_path / "config.py",
        good=tmp_path / "good.py",
    )
    with seconds(60):
        line = [word.format(**fill) for word in line]
        if (read, kind) == ("kitti", "empty"):  # an image without an object
            assert call(*line) == 0
            return
        said = sentence(capsys, *line)
    assert path.name in said, said
    assert "weights_only" not in said
    assert not (tmp_path / "out").exists()


def test_what_is_right_is_read(tmp_path, capsys):
    """The table above would also pass if nothing were ever accepted."""
    (tmp_path / "x.json").write_text(COCO % ("12", ""))
    weights = {"state_dict": {"a": torch.zeros(2)}}
    torch.save(weights, tmp_path / "w.pth")
    line = ["make_fewshot", "extend", tmp_path / "w.pth", tmp_path / "out"]
    said = sentence(capsys, *line, "--classes", tmp_path / "x.json")
    assert "w.pth does not say which classes" in said  # so x.json was read
    assert call("export", tmp_path / "w.pth", tmp_path / "out") == 0
