# PS-TTL on COCO, 1 shot of all 80 classes: the recipe that was released for VOC split 1
# (the authors' COCO configs are not released), from DeFRCN's COCO detector (lambda
# 0.01). One pass over val2017; the papers' nAP is coco/AP_novel.
_base_ = "./voc_split1_1shot.py"
from pld_mmdet.recipes import class_names, few_shot
from pld_mmdet.recipes.detection import short_sides, train_set

data_root = "data/coco/"
stem = "annotations/fewshot/coco"
test_file = stem + "_test.json"
base_classes, novel_classes = class_names.COCO_BASE, class_names.COCO_NOVEL
classes = base_classes + novel_classes
resize = short_sides(640)
stream_pipeline = _base_.stream_pipeline
stream_pipeline[1] = resize
support_pipeline = _base_.support_pipeline
support_pipeline[2] = resize
load_from, how_to_get, _few = few_shot.online_from(
    "coco_1shot",
    stem,
    metainfo=dict(classes=classes),
    data_root=data_root,
    pipeline=support_pipeline,
)
how_to_get["data"] = (
    "unpack COCO 2017 into data/coco (train2017, val2017, annotations), then: "
    "python tools/make_fewshot.py coco --shots 1 10"
)
model = dict(
    detector=dict(
        roi_head=dict(
            bbox_roi_extractor=dict(gradient_scale=0.01), bbox_head=dict(num_classes=80)
        )
    )
)
listed = few_shot.listed(test_file, classes, data_root=data_root)
train_dataloader = train_set(pipeline=stream_pipeline, **listed)
test_dataloader = dict(dataset=listed)
test_evaluator = dict(
    ann_file=data_root + test_file,
    groups=few_shot.grouped(base_classes, novel_classes),
    legacy_coordinates=False,
    average=True,
    report="coco/AP",
    paper_metric="coco/AP",
)
train_cfg = dict(score_dataloader=train_set(**listed), **_few, evaluator=test_evaluator)
