# The source recipe with a Cascade R-CNN (3.5 M parameters): foggy_streets.py with three
# box heads in a row that demand an IoU of 0.5, 0.6 and 0.7.
_base_ = "./foggy_streets.py"

model = _base_.model
model.type = "CascadeRCNN"
_box_head = model.roi_head.bbox_head
_rcnn = model.train_cfg.rcnn
model.roi_head = dict(
    type="CascadeRoIHead",
    num_stages=3,
    stage_loss_weights=[1, 0.5, 0.25],
    bbox_roi_extractor=model.roi_head.bbox_roi_extractor,
    bbox_head=[
        dict(
            _box_head,
            bbox_coder=dict(
                type="DeltaXYWHBBoxCoder",
                target_means=[0.0, 0.0, 0.0, 0.0],
                target_stds=[0.1 / k, 0.1 / k, 0.2 / k, 0.2 / k],
            ),
        )
        for k in (1, 2, 3)
    ],
)
model.train_cfg.rcnn = [
    dict(
        _rcnn,
        assigner=dict(
            _rcnn.assigner, pos_iou_thr=iou, neg_iou_thr=iou, min_pos_iou=iou
        ),
    )
    for iou in (0.5, 0.6, 0.7)
]
