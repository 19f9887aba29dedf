"""Another labeller beside the teacher: a file of boxes, or another detector."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData

import pld_mmdet
from pld_mmdet.adaptation import looking, opinion
from pld_mmdet.adaptation.folder import Images
from pld_mmdet.engine.run.stack import import_mmdet
from pld_mmdet.errors import UserError
from tests.adaptation.tiny import CLASSES, write_detector, write_images

SHORT = dict(workers=0, iterations=2, score_images=2, evaluations=1, say=print)
SHORT |= dict(select="last")


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    root = tmp_path_factory.mktemp("user")
    return *write_detector(root / "detector"), write_images(root / "images", 6)


def adapted(user, out, opinion, **more):
    said = []
    kwargs = SHORT | dict(say=said.append, threshold=0.9) | more
    kwargs.setdefault("method", "mean_teacher")
    result = pld_mmdet.adapt(*user, out=out, second_opinion=opinion, **kwargs)
    return result, "\n".join(said)


def write(path, rows):
    path.write_text(json.dumps(rows))
    return path


ROW = dict(image_id="000.png", category_id="dog", bbox=[5, 5, 20, 20], score=0.8)


def test_a_file_of_boxes_teaches_beside_the_teacher(user, tmp_path):
    file = write(tmp_path / "boxes.json", [ROW, ROW | dict(image_id="sub/001.png")])
    result, said = adapted(user, tmp_path / "out", [file])
    assert "Second opinion: 2 boxes in boxes.json, for 2 of the 6 images" in said
    model = Config.fromfile(str(result.config)).model
    assert model.second_opinion.file == str(file)
    assert tuple(model.second_opinion.classes) == CLASSES
    other = write(tmp_path / "boxes.json", [ROW])
    with pytest.raises(UserError, match="--second-opinion"):
        adapted(user, tmp_path / "out", [other], resume=True)


def test_whole_paths_fit_a_folder_that_is_named_from_here(tmp_path, monkeypatch):
    """The run names its images by whole paths, however the folder was written."""
    monkeypatch.chdir(tmp_path)
    name = str(tmp_path / "photos/sub/001.png")
    file = write(tmp_path / "boxes.json", [ROW | dict(image_id=name)])
    images = Images(Path("photos"), ["000.png", "sub/001.png"])
    said = []
    detector = SimpleNamespace(classes=CLASSES)
    opinion.ask([file], detector, images, tmp_path, False, said.append)
    assert "for 1 of the 2 images" in said[0]


def test_another_detector_looks_at_every_image_once(user, tmp_path):
    other = write_detector(tmp_path / "other")
    kept = tmp_path / "out/second_opinion.json"
    kept.parent.mkdir()
    write(kept, [ROW])  # of a start with another detector that failed
    result, said = adapted(user, tmp_path / "out", list(other), method="lpld")
    assert "FasterRCNN looks at 6 images" in said
    content = json.loads(kept.read_text())
    assert [i["file_name"] for i in content["images"]][:2] == ["000.png", "002.png"]
    assert [c["name"] for c in content["categories"]] == list(CLASSES)
    assert len(content["annotations"]) > 6
    for row in content["annotations"]:  # pixels of the file: 96 x 64
        x, y, width, height = row["bbox"]
        assert x >= 0
        assert y >= 0
        assert x + width <= 96.001
        assert y + height <= 64.001
    assert Config.fromfile(str(result.config)).model.type == "pld_mmdet.LPLD"
    before = kept.stat().st_mtime_ns
    more = dict(method="lpld", resume=True)
    said = adapted(user, tmp_path / "out", list(other), **more)[1]
    assert "looks at" not in said
    assert kept.stat().st_mtime_ns == before


class Answers:
    """Stands for a network with strange boxes; keeps what it was told of an image."""

    def __init__(self):
        self.told = []

    def eval(self):
        return self

    def to(self, device):
        return self

    def load_state_dict(self, state):
        assert state == {"a": 1}

    def test_step(self, data):
        (sample,) = data["data_samples"]
        self.told.append(sample.metainfo)
        boxes = [[1, 2, 4, 9], [5, 5, 5, 9], [9, 1, 4, 2], [0, 0, float("nan"), 1]]
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor([*boxes, [0, 0, 7, 7]]),
            scores=torch.tensor([0.5, 0.6, 0.7, 0.8, float("inf")]),
            labels=torch.tensor([1, 0, 0, 0, 0]),
        )
        return [sample]


def test_an_image_comes_with_all_that_its_config_packs(tmp_path, monkeypatch):
    """CornerNet and CenterNet need ``border``; without it their boxes are shifted."""
    import_mmdet()
    root, network = write_images(tmp_path, 1), Answers()
    pipeline = [
        dict(type="LoadImageFromFile"),
        dict(type="Resize", scale=(48, 32), keep_ratio=True),
        dict(type="PackDetInputs", meta_keys=("img_id", "scale")),
    ]
    cfg = Config(dict(test_dataloader=dict(dataset=dict(pipeline=pipeline))))
    monkeypatch.setattr(looking, "build_detector", lambda config: network)
    monkeypatch.setattr(opinion, "load_checkpoint_file", lambda path: {"a": 1})
    other = SimpleNamespace(config=None, classes=("cat", "dog"))
    found = opinion.detect(cfg, other, "a.pth", Images(Path(root), ["000.png"]))
    (told,) = network.told
    assert told["scale"] == (48, 32)
    assert "homography_matrix" in told or "scale_factor" in told
    assert found["annotations"] == [
        dict(image_id=0, category_id=1, bbox=[1.0, 2.0, 3.0, 7.0], score=0.5)
    ]


HALF = dict(  # of images of 96 x 64 px
    images=[dict(id=1, file_name="002.png", width=48, height=32)],
    categories=[dict(id=1, name="dog")],
    annotations=[dict(image_id=1, category_id=1, bbox=[5, 5, 20, 9], score=0.8)],
)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (HALF, "48 x 32 px of .*002.png, and the image has 96 x 64 px"),
        ([ROW | dict(category_id="cow")], "does not know: cow"),
        ([ROW | dict(image_id="photo.png")], "'photo.png'"),
        ({"boxes": []}, "no list of COCO results"),
    ],
)
def test_wrong_classes_and_image_names_are_a_sentence(user, tmp_path, rows, sentence):
    file = write(tmp_path / "boxes.json", rows)
    with pytest.raises(UserError, match=sentence):
        adapted(user, tmp_path / "out", [file])
    assert not (tmp_path / "out/config.py").exists()


def test_a_detector_of_other_classes_is_refused(user, tmp_path):
    other = write_detector(tmp_path / "other", classes=("cat", "dog", "owl"))
    with pytest.raises(UserError, match="does not know: owl"):
        adapted(user, tmp_path / "out", list(other))


@pytest.mark.parametrize(
    ("words", "method", "sentence"),
    [
        (["a.pth"], "lpld", "neither a json file nor"),
        (["a.py", "b.pth", "c.pth"], "lpld", "neither a json file nor"),
        (["a.json"], "lpld", "does not exist"),
        (["there.json"], "adabn", "changes nothing"),
    ],
)
def test_what_is_wrong_with_the_words(user, tmp_path, words, method, sentence):
    write(tmp_path / "there.json", [ROW])
    words = [str(tmp_path / w) for w in words]
    with pytest.raises(UserError, match=sentence):
        adapted(user, tmp_path / "out", words, method=method)
