# The same adaptation with VGG16.
_base_ = ["./foggy_cityscapes.py", "../_base_/models/faster_rcnn_vgg16.py"]

load_from = "work_dirs/source/cityscapes_vgg16/last.pth"
how_to_get = dict(checkpoint="python tools/train.py configs/source/cityscapes_vgg16.py")
vgg16 = _base_.vgg16_detector
vgg16.roi_head.bbox_head.num_classes = len(_base_.classes)
vgg16.train_cfg = _base_.model.detector.train_cfg
vgg16.test_cfg = _base_.model.detector.test_cfg
model = dict(detector=dict(_delete_=True, **vgg16))
