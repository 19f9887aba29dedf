# PS-TTL on COCO, 1 shot of all 80 classes: the recipe that was released for VOC split 1
# (the authors' COCO configs are not released), from DeFRCN's COCO detector (lambda
# 0.01). One pass over val2017; the papers' nAP is coco/AP_novel.
_base_ = "./voc_split1_1shot.py"

load_from = "work_dirs/defrcn/coco_1shot/last.pth"
data_root = "data/coco/"
stem = "annotations/fewshot/coco"
test_file = stem + "_test.json"
base_classes = _base_.coco_base
novel_classes = _base_.coco_novel
classes = tuple(base_classes) + tuple(novel_classes)
how_to_get = dict(
    data=(
        "unpack COCO 2017 into data/coco (train2017, val2017, annotations), then: "
        "python tools/make_fewshot.py coco --shots 1 10"
    ),
    checkpoint="python tools/train.py configs/defrcn/coco_1shot.py",
)
model = dict(
    detector=dict(
        roi_head=dict(
            bbox_roi_extractor=dict(gradient_scale=0.01), bbox_head=dict(num_classes=80)
        )
    )
)
scales = [(1333, side) for side in range(640, 801, 32)]
stream_pipeline = _base_.stream_pipeline
stream_pipeline[1].scales = scales
support_pipeline = _base_.support_pipeline
support_pipeline[2].scales = scales
listed = dict(data_root=data_root, ann_file=test_file, metainfo=dict(classes=classes))
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=stream_pipeline, **listed)))
test_dataloader = dict(dataset=listed)
test_evaluator = dict(
    ann_file=data_root + test_file,
    groups=dict(base=list(base_classes), novel=list(novel_classes)),
    legacy_coordinates=False,
    average=True,
    report="coco/AP",
    paper_metric="coco/AP",
)
train_cfg = dict(
    score_dataloader=dict(dataset=dict(dataset=listed)),
    support_dataloader=dict(
        dataset=dict(
            dataset=dict(
                data_root=data_root,
                ann_file=stem + "_1shot_seed0.json",
                metainfo=dict(classes=classes),
                pipeline=support_pipeline,
            )
        )
    ),
    evaluator=test_evaluator,
)
