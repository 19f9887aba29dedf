# The same source training with VGG16.
_base_ = ["./sim10k.py", "../_base_/models/faster_rcnn_vgg16.py"]

vgg16 = _base_.vgg16_detector
vgg16.backbone.init_cfg = dict(type="Pretrained", checkpoint="open-mmlab://vgg16_caffe")
vgg16.roi_head.bbox_head.num_classes = len(_base_.classes)
vgg16.train_cfg = _base_.model.train_cfg
vgg16.test_cfg = _base_.model.test_cfg
model = dict(_delete_=True, **vgg16)
