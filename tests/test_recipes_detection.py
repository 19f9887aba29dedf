"""The functions that configs of detectors call."""

import pytest

from pld_mmdet.recipes import class_names, few_shot, streets
from pld_mmdet.recipes.detection import (
    coco,
    from_config,
    packing,
    short_sides,
    strong_view,
    swapped,
    the,
    to_test,
    to_train,
    without,
)
from pld_mmdet.recipes.detectors import box_head, faster_rcnn, learning, on_vgg16, vgg16
from pld_mmdet.recipes.streets import (
    adabn_row,
    adapted_row,
    in_fog,
    oracle_row,
    quick_streets,
    source_row,
    warmed_cosine,
)


def test_classes_are_parted():
    assert len(class_names.COCO) == len(set(class_names.COCO)) == 80
    assert len(class_names.COCO_BASE) == 60
    assert len(class_names.OV_COCO) == 65
    assert set(class_names.OV_COCO_NOVEL) < set(class_names.OV_COCO)
    for split in (1, 2, 3):
        stem, base, novel, classes = few_shot.voc(split)
        assert stem.endswith(f"voc_split{split}")
        assert classes == base + novel
        assert sorted(classes) == sorted(class_names.VOC)
        assert len(novel) == 5


def test_a_detector_is_put_together():
    head = box_head(7, 3, hidden=11, size=4)
    made = faster_rcnn(
        dict(type="B"),
        5,
        [4, 8, 16, 32, 64],
        [2],
        head,
        pooled=4,
        pad=9,
        roi=dict(finest_scale=28),
        neck=dict(type="N"),
        **learning((30, 20), (10, 6), rois=17, positive=0.6, least=0.2),
    )
    assert head["type"] == "Shared2FCBBoxHead"
    assert head["num_classes"] == 3
    assert made["neck"] == dict(type="N")
    assert made["data_preprocessor"]["pad_size_divisor"] == 9
    assert made["rpn_head"]["anchor_generator"]["strides"] == [4, 8, 16, 32, 64]
    extractor = made["roi_head"]["bbox_roi_extractor"]
    assert extractor["featmap_strides"] == [4, 8, 16, 32]  # no RoI on the fifth
    assert (extractor["finest_scale"], extractor["out_channels"]) == (28, 5)
    train, test = made["train_cfg"], made["test_cfg"]
    assert train["rpn"]["assigner"]["pos_iou_thr"] == 0.6
    assert train["rpn"]["assigner"]["min_pos_iou"] == 0.2
    assert train["rpn_proposal"]["max_per_img"] == 20
    assert train["rcnn"]["sampler"]["num"] == 17
    assert test["rpn"]["nms_pre"] == 10
    assert "shared_head" not in made["roi_head"]


def test_vgg16_takes_the_place_of_another_detector():
    like = dict(train_cfg=dict(a=1), test_cfg=dict(b=2), neck=dict(type="N"))
    made = vgg16(("car", "bus"), like)
    assert made["_delete_"]
    assert (made["train_cfg"], made["test_cfg"]) == (dict(a=1), dict(b=2))
    assert made["roi_head"]["bbox_head"]["num_classes"] == 2
    assert "init_cfg" not in made["backbone"]
    learned = vgg16(("car",), like, pretrained=True)["backbone"]["init_cfg"]
    assert learned["checkpoint"] == "open-mmlab://vgg16_caffe"
    base = dict(classes=("car", "bus", "van"), model=dict(detector=like))
    start, how, model = on_vgg16(base, "kitti")
    assert start == "work_dirs/source/kitti_vgg16/last.pth"
    assert how["checkpoint"].endswith("configs/source/kitti_vgg16.py")
    assert model["detector"]["roi_head"]["bbox_head"]["num_classes"] == 3


def test_loaders_of_boxes():
    data = coco("data/x/", "a.json", ("car",), ["p"], images="i/", indices=3)
    assert data["data_prefix"] == dict(img="i/")
    assert data["metainfo"] == dict(classes=("car",))
    assert "metainfo" not in coco("data/x/", "a.json", (), [])
    train = to_train(data, 4, workers=1, shuffle=False, infinite=False, _delete_=True)
    assert train["sampler"] == dict(
        type="pld_mmdet.ResumableSampler", shuffle=False, infinite=False
    )
    assert train["dataset"]["dataset"] is data
    assert train["_delete_"]
    assert to_test("data/x/", "a.json", (), [])["dataset"]["test_mode"]


def test_views():
    assert short_sides(640, 704)["scales"] == [(1333, 640), (1333, 672), (1333, 704)]
    assert packing()["meta_keys"][-1] == "homography_matrix"
    assert packing("P", homography=False)["meta_keys"][-1] == "flip_direction"
    view = strong_view(dict(type="P"), hue=0.1)
    assert view[0]["hue"] == 0.1
    assert view[-1] == dict(type="P")


def test_hooks_go_by_their_names():
    hooks = [dict(type="pld_mmdet.A", n=1), dict(type="B")]
    assert without(hooks, "A") == [dict(type="B")]
    assert the(hooks, "A")["n"] == 1
    changed = swapped(hooks, dict(type="pld_mmdet.A", n=2))
    assert [hook.get("n") for hook in changed] == [2, None]
    with pytest.raises(ValueError, match="no hook C, D"):
        without(hooks, "A", "D", "C")
    with pytest.raises(ValueError, match="no hook C"):
        swapped(hooks, dict(type="C"))
    with pytest.raises(ValueError, match="unpack"):
        the(hooks, "C")


def test_shots():
    train, schedule = few_shot.length(1500)
    assert train == dict(max_iters=1500, val_interval=1500)
    assert schedule[0]["milestones"] == [1200]
    assert from_config("a/b")[0] == "work_dirs/a/b/last.pth"
    start, how, loop = few_shot.online_from("k_7shot", "s", data_root="d/")
    assert start == "work_dirs/defrcn/k_7shot/last.pth"
    assert how["checkpoint"] == "python tools/train.py configs/defrcn/k_7shot.py"
    support = loop["support_dataloader"]["dataset"]["dataset"]
    assert support == dict(ann_file="s_7shot_seed0.json", data_root="d/")
    made, commands = few_shot.extended("a/b", "s.json")
    assert made == "work_dirs/a/b/all_classes.pth"
    assert commands.endswith(f"extend work_dirs/a/b/last.pth {made} --classes s.json")


def test_a_quick_look_has_a_folder_of_its_own():
    root = "data/foggy_streets_quick_48"
    alone = quick_streets(48)
    assert alone["data_args"] == f"--train 48 --val 16 --test 16 --root {root}"
    root = "data/foggy_streets_quick_96"  # another size would be refused in the first
    assert "seed_data_args" not in alone
    made = quick_streets(96, others=2, per_seed=True, cfg_options=["a=1"])
    assert made["data_args"][1:] == [f"--root {root}"] * 2
    assert made["seed_data_args"] == f"--root {root}"
    assert made["data_root"] == ("data/foggy_streets/", f"{root}/")
    assert made["cfg_options"] == ["a=1"]


def test_a_quick_look_at_two_sets_draws_one():
    made = streets.two_sets(7, per_seed=True, cfg_options=["a=1"])
    root = "data/foggy_streets_quick_7"
    first, second = made["data"]
    assert first == "python tools/prepare.py foggy_streets"
    assert second.endswith(
        "--root data/foggy_streets_3200 --train 3200 --val 0 --test 0"
    )
    few = f"--train 7 --val 16 --test 16 --root {root}"
    assert made["quick"]["data_args"] == [few, few]
    assert made["quick"]["data_root"] == [
        ("data/foggy_streets/", f"{root}/"),
        ("data/foggy_streets_3200/", f"{root}/"),
    ]
    assert made["quick"]["seed_data_args"] == f"--root {root}"
    assert made["quick"]["cfg_options"] == ["a=1"]


def test_a_source_and_what_the_tool_made_of_it():
    source = streets.source_row(of="_cascade", title="Cascade", seconds=7)
    assert source["name"] == "source_cascade"
    assert source["title"] == "Cascade, source only"
    config = "configs/source/foggy_streets_cascade.py"
    fog = "configs/source/foggy_streets_cascade_on_fog.py"
    assert source["evaluate"] == dict(clear=config, fog=fog)
    assert source["seconds"] == 7
    plain = streets.source_row(False)
    assert plain["evaluate"] == dict(fog=streets.FOG)
    assert plain["title"] == "Source only"
    made = streets.tool_row("a", "A", "--lr 3", "_cascade", quick=["--b"])
    assert made["init"] == "source_cascade"
    assert made["config"] == config
    assert made["evaluate"] == dict(fog=fog)
    assert made["command"].endswith(" --lr 3 --select last --seed {seed} --out {out}")
    assert made["quick"] == ["--b"]


def test_splits_of_voc():
    stem = "annotations/fewshot/voc_split3"
    base, novel = class_names.VOC_BASE[3], class_names.VOC_NOVEL[3]
    train, val, score = few_shot.voc_base(3)
    assert train["dataset"]["dataset"]["ann_file"] == f"{stem}_base.json"
    assert train["dataset"]["dataset"]["metainfo"] == dict(classes=base)
    assert val["dataset"]["ann_file"] == f"{stem}_test_base.json"
    assert score == dict(ann_file=f"data/VOCdevkit/{stem}_test_base.json")
    start, how, train, val, score = few_shot.voc_shots(3)
    assert start == "work_dirs/defrcn/voc_split3_base/all_classes.pth"
    assert how["data"] == few_shot.voc_files(3)
    assert train["dataset"]["dataset"] == dict(
        ann_file=f"{stem}_1shot_seed0.json", metainfo=dict(classes=base + novel)
    )
    assert val["dataset"]["metainfo"] == dict(classes=base + novel)
    assert score["groups"] == dict(base=list(base), novel=list(novel))
    start, how, stream, test, score, loop = few_shot.online_voc(3)
    assert start == "work_dirs/defrcn/voc_split3_1shot/last.pth"
    assert stream["dataset"]["dataset"] == test["dataset"]
    assert loop["evaluator"] is score
    assert loop["score_dataloader"] == stream
    train, loop, _ = few_shot.more_shots("s", 5, 40)
    assert train["dataset"]["dataset"] == dict(ann_file="s_5shot_seed0.json")
    assert loop["max_iters"] == 40


def test_rows_and_rates_on_foggy_streets():
    val, test, _, score = in_fog("d/")
    assert val["dataset"]["ann_file"] == "annotations/val_foggy_beta_0.02.json"
    assert score["ann_file"] == "d/" + test["dataset"]["ann_file"]
    rise, fall = warmed_cosine(450, rise=50)
    assert (rise["end"], fall["begin"], fall["end"], fall["T_max"]) == (
        50,
        50,
        450,
        400,
    )
    assert list(source_row()["evaluate"]) == ["clear", "fog"]
    assert list(source_row(clear=False)["evaluate"]) == ["fog"]
    made = adapted_row("a", "A", "m/x", seconds=9)
    assert (made["config"], made["init"]) == ("configs/m/x.py", "source")
    assert made["evaluate"] == dict(fog=None)
    assert made["quick"][-1] == "expected_counts=None"
    assert oracle_row()["evaluate"] == dict(fog=source_row()["evaluate"]["fog"])
    assert adabn_row("c.py")["evaluate"] == dict(fog="c.py")
