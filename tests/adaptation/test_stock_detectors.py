"""Stock configs of the installed mmdet, one of each family, through adapt() itself."""

import os

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData

from pld_mmdet.adaptation import support, support_table
from pld_mmdet.adaptation.compose import META_KEYS, pack_keys
from pld_mmdet.adaptation.detector import _kind
from pld_mmdet.adaptation.unsuited import refuse_unsuited
from pld_mmdet.detection.boxes.views import inside_image, into_input
from pld_mmdet.detection.detectors.stock import build_detector
from pld_mmdet.engine.run.stack import import_mmdet
from pld_mmdet.errors import UserError

ROOT = support.stock_configs()
# Tiny ones of the same classes, or neighbours of the others: PLD_STOCK=all tries them.
MORE = {
    "conditional_detr/conditional-detr_r50_8xb2-50e_coco": "",
    "deformable_detr/deformable-detr_r50_16xb2-50e_coco": "",
    "dino/dino-4scale_r50_8xb2-12e_coco": "",
    "retinanet/retinanet_r18_fpn_1x_coco": "",
    "sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco": "has 80 outputs for 80 classes",
}
FAMILIES = {
    "detr/detr_r18_8xb2-500e_coco": "",
    "centernet/centernet_r18_8xb16-crop512-140e_coco": "",
    "yolo/yolov3_mobilenetv2_8xb24-ms-416-300e_coco": "",
    "yolox/yolox_tiny_8xb8-300e_coco": "",
    "ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco": "",
    "point_rend/point-rend_r50-caffe_fpn_ms-1x_coco": "lpld",
    "grid_rcnn/grid-rcnn_r50_fpn_gn-head_1x_coco": "places its boxes otherwise",
    "htc/htc_r50_fpn_1x_coco": "lpld",
    "rtmdet/rtmdet_tiny_8xb32-300e_coco": "",
    "yolof/yolof_r50-c5_8xb8-1x_coco": "",
    "reppoints/reppoints-moment_r50_fpn_1x_coco": "",
} | (MORE if os.environ.get("PLD_STOCK") == "all" else {})


@pytest.fixture(scope="module", autouse=True)
def registered():
    import_mmdet()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_stock_detector_adapts_a_step(tmp_path, name):
    found = support.try_config(ROOT / f"{name}.py", ROOT, tmp_path)
    assert found.outcome == "works", (found.words, found.trace)
    lpld = FAMILIES[name] == "lpld"
    assert found.methods == (("lpld",) if lpld else ()) + ("mean_teacher",)
    if not lpld:
        assert FAMILIES[name] in found.words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mask2former/mask2former_r50_8xb2-lsj-50e_coco", "masks of all pixels"),
        ("panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco", "masks of all pixels"),
        ("solov2/solov2_r50_fpn_1x_coco", "masks without boxes"),
        ("rpn/rpn_r50_fpn_1x_coco", "proposals, which have no class"),
        ("fast_rcnn/fast-rcnn_r50_fpn_1x_coco", "proposals from a file"),
        ("glip/glip_atss_swin-t_a_fpn_dyhead_pretrain_obj365", "asked with text"),
        ("ld/ld_r18-gflv1-r101_fpn_1x_coco", "distils from a teacher"),
        ("lad/lad_r101-paa-r50_fpn_2xb8_coco_1x", "distils from a teacher"),
        ("clrnet/clrnet", "finds lanes"),
        ("qdtrack/qdtrack_faster-rcnn_r50_fpn_4e_base", "follows objects"),
    ],
)
def test_what_boxes_cannot_teach_is_refused_before_anything_is_built(name, words):
    path = ROOT / f"{name}.py"
    if not path.is_file():  # the other line of the stack has no lanes
        assert name == "clrnet/clrnet"
        return
    with pytest.raises(UserError, match=f"cannot be adapted by boxes: .*{words}"):
        refuse_unsuited(Config.fromfile(path).model)


def test_ssd_has_a_softmax_and_predicts():
    cfg = Config.fromfile(ROOT / "ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py")
    network = build_detector(support._prepared(cfg.model))
    assert _kind(network) == dict(kind="one-stage", head="softmax")
    assert network.bbox_head.loss_cls is None  # mmdet asks for it when it predicts


def test_a_config_is_as_it_was_after_building():
    cfg = Config.fromfile(ROOT / "detr/detr_r18_8xb2-500e_coco.py")
    model = support._prepared(cfg.model)
    before = ConfigDict(model).to_dict()
    build_detector(model)
    assert model.to_dict() == before


def test_keys_of_the_config_s_own_pipeline_go_along():
    folder = ROOT / "centernet/centernet_r18_8xb16-crop512-140e_coco.py"
    pipeline = Config.fromfile(folder).test_dataloader.dataset.pipeline
    keys = pack_keys(pipeline)
    assert keys[: len(META_KEYS)] == META_KEYS
    assert "border" in keys
    branches = dict(type="MultiBranch", branch_field=["weak"], weak=pipeline[-1:])
    assert "border" in pack_keys([branches])
    assert pack_keys([dict(type="PackDetInputs")]) == META_KEYS


class Sample(dict):
    img_shape = (50, 80)


def test_boxes_go_back_into_the_border_and_stay_inside_the_image():
    def boxes(*rows):
        rows = torch.tensor(rows, dtype=torch.float)
        return InstanceData(bboxes=rows, labels=torch.arange(len(rows)))

    sample = Sample(border=[7, 60, 11, 90])  # top, bottom, left, right
    moved = into_input(boxes([1, 2, 3, 5]), sample)
    assert moved.bboxes.tolist() == [[12, 9, 14, 12]]
    assert into_input(boxes([1, 2, 3, 5]), Sample()).bboxes.tolist() == [[1, 2, 3, 5]]
    nan = float("nan")
    found = inside_image(
        boxes(
            [-4, 10, 90, 60],
            [90, 10, 95, 20],
            [5, 5, 5, 9],
            [nan, 0, 9, 9],
            [1, 2, 3, 4],
        ),
        Sample(),
    )
    assert found.bboxes.tolist() == [[0, 10, 80, 50], [1, 2, 3, 4]]
    assert found.labels.tolist() == [0, 4]
    assert len(inside_image(boxes([1, 2, 3, 4])[:0], Sample())) == 0


def test_findings_in_words_and_in_the_page(tmp_path):
    findings = [
        support.Finding("a/b.py", "A", "works", ("mean_teacher",), "it | has none"),
        support.Finding("c/d.py", "", "refused", (), "no box head"),
        support.Finding("e/f.py", "E", "failed", (), "KeyError: 3", "the trace"),
    ]
    page = tmp_path / "adapt.md"
    page.write_text(f"before\n{support_table.BEGIN}\nold\n{support_table.END}\nafter\n")
    support_table.write_docs(findings, page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "3 configs: 1 work, 1 are refused in a sentence, 1 failed." in text
    assert "| `a/b` | A | no | yes | it \\| has none |" in text
    assert "| `e/f` | E | no | no | fails: KeyError: 3 |" in text
    result = tmp_path / "r.json"
    support_table.write_result(findings, result)
    assert support_table.read_result(str(result)) == [
        support.Finding(**{**vars(f), "methods": [*f.methods]}) for f in findings[:2]
    ]
    page.write_text("no marks")
    with pytest.raises(UserError, match="does not hold the pair"):
        support_table.write_docs(findings, page)
