"""A second labeller: boxes fused by hand, its file, and its boxes in the view."""

import json

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from pld_mmdet.detection.pseudo_labels import Labels
from pld_mmdet.detection.pseudo_labels.second_opinion import SecondOpinion, fuse
from pld_mmdet.errors import UserError


def found(*rows):
    """Rows of x1, x2, score, label; all boxes are 0 to 10 high."""
    table = torch.tensor(rows, dtype=torch.float).reshape(-1, 4)
    zero, ten = torch.zeros(len(table)), torch.full((len(table),), 10.0)
    return InstanceData(
        bboxes=torch.stack([table[:, 0], zero, table[:, 1], ten], 1),
        scores=table[:, 2],
        labels=table[:, 3].long(),
    )


def test_a_cluster_by_hand():
    """x 10 at 0.9 and x 14 at 0.6: 11.6, and 0.75 or, alone, 0.8 -> 0.40."""
    ours, theirs = found([10, 40, 0.9, 0]), found([14, 44, 0.6, 0])
    made = fuse([ours, theirs], [0.7, 0.7], score="avg")
    assert made.bboxes[0, 0].item() == pytest.approx(11.6)
    assert made.scores.tolist() == pytest.approx([0.75])
    assert fuse([ours, theirs], [0.7, 0.7]).scores.tolist() == pytest.approx([0.9])
    alone = fuse([found([10, 40, 0.8, 1]), found()], [0.7, 0.7], score="avg")
    assert alone.scores.tolist() == pytest.approx([0.40])
    assert alone.labels.tolist() == [1]


def test_the_union_adds_what_the_teacher_misses_and_nothing_beside_it():
    ours = found([0, 10, 0.8, 0], [100, 110, 0.3, 1])
    theirs = found(
        [50, 60, 0.6, 2],  # missed by the teacher: an extra
        [5, 15, 0.9, 1],  # IoU 1/3 with a sure box, of another class: left out
        [100, 110, 0.6, 1],  # the teacher is unsure, the other is not: stays
        [200, 210, 0.4, 0],  # sure to nobody
    )
    made = fuse([ours, theirs], [0.7, 0.5])
    rows = sorted(zip(made.bboxes[:, 0].tolist(), made.labels.tolist(), strict=True))
    assert rows == [(0.0, 0), (50.0, 2), (100.0, 1)]


def test_one_labeller_is_left_as_it_is_and_nobody_finds_nothing():
    ours = found([0, 10, 0.9, 0], [3, 13, 0.8, 1], [50, 60, 0.75, 0], [80, 90, 0.7, 1])
    made = fuse([ours], [0.7])
    sure = ours[ours.scores > 0.7]
    assert torch.equal(made.bboxes, sure.bboxes)
    assert torch.equal(made.scores, sure.scores)
    nothing = fuse([found(), found()], [0.7, 0.7])
    assert nothing.bboxes.shape == (0, 4)


CLASSES = ("car", "person", "bus")


def results(tmp_path, **changes):
    content = dict(
        images=[dict(id=7, file_name="a/0.png"), dict(id=9, file_name="a/1.png")],
        categories=[dict(id=3, name="bus"), dict(id=5, name="car")],
        annotations=[
            dict(image_id=7, category_id=3, bbox=[10, 20, 30, 20], score=0.9),
            dict(image_id=7, category_id=5, bbox=[40, 10, 16, 8], score=0.4),
            dict(image_id=9, category_id=5, bbox=[1, 2, 3, 4], score=0.6),
        ],
    )
    path = tmp_path / "opinion.json"
    path.write_text(json.dumps(changes.pop("whole", content | changes)))
    return str(path)


def one_box(**changes):
    row = dict(image_id=7, category_id=3, bbox=[10, 20, 30, 20], score=0.9)
    return {"annotations": [row | changes]}


def test_coco_results_are_read_by_image_and_class_name(tmp_path):
    opinion = SecondOpinion(results(tmp_path), CLASSES)
    assert opinion.boxes["a/0.png"].labels.tolist() == [2, 0]
    assert opinion.boxes["a/0.png"].bboxes[0].tolist() == [10, 20, 40, 40]
    assert opinion.check_images(["x/a/0.png", "x/b/0.png"]) == 1
    rows = [dict(image_id="1.png", category_id="car", bbox=[0, 0, 5, 6], score=0.8)]
    bare = SecondOpinion(results(tmp_path, whole=rows), CLASSES)
    assert bare.boxes["1.png"].labels.tolist() == [0]
    with pytest.raises(UserError, match=r"'1.png'.*'photo.jpg'"):
        bare.check_images(["photo.jpg"])


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/x/sub/a.jpg", "/x/sub/a.jpg"),
        ("./a.jpg", "/x/sub/a.jpg"),
        ("./sub\\a.jpg", "/x/sub/a.jpg"),
        ("C:\\x\\sub\\a.jpg", "C:/x/sub/a.jpg"),
        ("sub//a.jpg", "C:\\x\\sub\\a.jpg"),
        ("a.jpg", "a.jpg"),
    ],
)
def test_a_name_is_found_however_its_path_is_written(tmp_path, name, path):
    row = dict(image_id=name, category_id="car", bbox=[2, 0, 5, 6], score=0.8)
    bare = SecondOpinion(results(tmp_path, whole=[row]), CLASSES)
    assert bare.check_images([path, "/y/b.jpg"]) == 1
    images = [dict(id=7, file_name=name), dict(id=9, file_name="a/1.png")]
    assert SecondOpinion(results(tmp_path, images=images), CLASSES).check_images([path])
    with pytest.raises(UserError, match="No image name"):
        bare.check_images(["/y/b.jpg", "/x/sub/ca.jpg"])


def test_a_name_that_fits_two_images_is_refused(tmp_path):
    def read(*names):
        row = dict(category_id="car", bbox=[2, 0, 5, 6], score=0.8)
        rows = [row | dict(image_id=name) for name in names]
        return SecondOpinion(results(tmp_path, whole=rows), CLASSES)

    paths = ["/x/cam1/img.jpg", "/x/cam2/img.jpg"]
    words = "'img.jpg' .* two images, /x/cam1/img.jpg and /x/cam2/img.jpg"
    with pytest.raises(UserError, match=words) as caught:
        read("img.jpg").check_images(paths)
    assert "folder into the names" in caught.value.fix
    assert read("img.jpg", "cam2/img.jpg").check_images([*paths, *paths]) == 4
    assert read("cam2/img.jpg").check_images(paths) == 1


def test_images_of_another_size_than_the_file_states_are_refused(tmp_path):
    images = [dict(id=7, file_name="a/0.png"), dict(id=9, file_name="./a/1.png")]
    images[1] |= dict(width=100.0, height=80)
    opinion = SecondOpinion(results(tmp_path, images=images), CLASSES)
    paths = ["/a/0.png", "/a/1.png", "/b.png"]
    with pytest.raises(UserError, match=r"100.0 x 80 px of /a/1.png.* 50 x 40 px"):
        opinion.check_images(paths, [(1, 2), (50, 40), (3, 4)])
    for size in ((100, 80), (80, 100)):
        assert opinion.check_images(paths, [(1, 2), size, (3, 4)]) == 2
    assert opinion.check_images(paths) == 2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"categories": [dict(id=3, name="lorry"), dict(id=5, name="car")]}, "lorry"),
        ({"whole": [dict(image_id=1)]}, "KeyError"),
        ({"whole": "boxes"}, "no list of COCO results"),
        (
            {"whole": [dict(image_id=1, category_id="car", bbox=[1], score=1)]},
            "no bbox of four numbers",
        ),
        (one_box(bbox=[3, 2, "five", 4]), "infinite or no number"),
        (one_box(bbox=[9, 8, -7, 4]), "negative width"),
        (one_box(score=87.0), "score of 87.0"),
        (one_box(score=-0.3), "score of -0.3"),
        (one_box(image_id=8), "belong to no image"),
    ],
)
def test_what_is_wrong_with_a_file_is_a_sentence(tmp_path, content, sentence):
    with pytest.raises(UserError, match=sentence):
        SecondOpinion(results(tmp_path, **content), CLASSES)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        SecondOpinion(str(tmp_path / "no.json"), CLASSES)
    (tmp_path / "no.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read as a second opinion"):
        SecondOpinion(str(tmp_path / "no.json"), CLASSES)


def test_its_own_threshold_leaves_as_many_boxes_as_the_teacher_has(tmp_path):
    opinion = SecondOpinion(results(tmp_path), CLASSES)  # 0.9, 0.6, 0.4; two images
    opinion.per_image.fill_(0.5)
    assert opinion.own_threshold() == pytest.approx(0.6)  # one box is above
    opinion.per_image.fill_(1.0)
    assert opinion.own_threshold() == pytest.approx(0.4)
    opinion.per_image.fill_(5.0)
    assert opinion.own_threshold() == 0.0
    fixed = SecondOpinion(results(tmp_path), CLASSES, threshold=0.55)
    assert fixed.own_threshold() == 0.55


@pytest.mark.parametrize(
    ("scores", "an_image", "threshold"),
    [
        ([0.9, 0.6, 0.6, 0.4, 0.3], 1.0, 0.4),  # two would count
        ([0.9, 0.6, 0.6, 0.4, 0.3], 0.5, 0.6),  # one counts: no tie is parted
        ([0.9, 0.6, 0.6, 0.4, 0.3], 1.5, 0.4),
        ([1.0, 1.0, 1.0, 1.0], 0.5, 0.0),
        ([1.0, 1.0, 1.0, 1.0], 0.0, 1.0),  # the teacher has none
    ],
)
def test_boxes_of_one_score_count_together(tmp_path, scores, an_image, threshold):
    rows = [
        dict(image_id=f"{n % 2}.png", category_id="car", bbox=[n, 0, 5, 6], score=score)
        for n, score in enumerate(scores)
    ]
    opinion = SecondOpinion(results(tmp_path, whole=rows), CLASSES)
    opinion.per_image.fill_(an_image)
    assert opinion.own_threshold() == pytest.approx(threshold)


def join(opinion, ours, sure, sample, training=False):
    views = None, None, None, [sample]
    labels = Labels(*views, 0.7, training, seen=[ours], high=[sure])
    opinion(labels)
    return labels.high


def test_boxes_come_into_the_view_and_keep_what_travels(tmp_path):
    """The view is half as large and mirrored: x 10..40 of 100 becomes 30..45."""
    opinion = SecondOpinion(results(tmp_path), CLASSES, threshold=0.5)
    matrix = np.array([[-0.5, 0, 50], [0, 0.5, 0], [0, 0, 1]], np.float32)
    sample = DetDataSample(
        metainfo=dict(
            img_path="/data/a/0.png",
            img_shape=(40, 50),
            ori_shape=(80, 100),
            homography_matrix=matrix,
        )
    )
    ours = found([0, 8, 0.95, 0], [20, 28, 0.1, 1])
    ours.set_metainfo(dict(doubtful="kept"))
    sure = ours[ours.scores > 0.7]
    (joined,) = join(opinion, ours, sure, sample, True)
    assert joined.labels.tolist() == [0, 2]
    assert joined.bboxes[1].tolist() == pytest.approx([30, 10, 45, 20])
    assert joined.get("doubtful") == "kept"
    assert opinion.per_image.item() == 1.0
    sample.set_metainfo(dict(ori_shape=(40, 50)))  # nothing is stated
    assert len(join(opinion, ours, sure, sample)[0]) == 2
    images = [dict(id=7, file_name="a/0.png", width=100, height=80)]
    images.append(dict(id=9, file_name="a/1.png"))
    sized = SecondOpinion(results(tmp_path, images=images), CLASSES, threshold=0.5)
    with pytest.raises(UserError, match=r"100 x 80 px of /data/a/0.png.*50 x 40 px"):
        join(sized, ours, sure, sample)
    for shape in ((80, 100), (80, 100, 3), (100, 80)):  # the last one is turned
        sample.set_metainfo(dict(ori_shape=shape))
        assert len(join(sized, ours, sure, sample)[0]) == 2
    sample.set_metainfo(dict(img_path="/data/b.png"))
    (same,) = join(opinion, ours, sure, sample)
    assert same is sure
