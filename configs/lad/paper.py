# LAD as released for VOC with DeepLabV3 on ResNet-18 (75.0 mIoU in the authors' table,
# cross-entropy 73.2): 16 crops of 512 in all, 40000 iterations a stage, images less
# their mean without division, labels times 100:
# tools/dist_train.sh configs/lad/paper.py 1
# The released script has the student's stage alone, from a trained student and teacher;
# rate and length of stages `base` and `teacher` are those of the benchmark that it
# builds on (?).
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/voc_seg.py"]
from pld_mmdet.recipes import loader, optimizer, poly, stage, staged
from pld_mmdet.recipes.segmentation import encoder_decoder

sync_bn = "torch"
_norm = dict(type="BN", requires_grad=True)
_head = dict(
    dropout_ratio=0.01,
    num_classes=21,
    norm_cfg=_norm,
    align_corners=True,
    loss_decode=dict(type="CrossEntropyLoss"),
)
segmentor = encoder_decoder(
    dict(
        type="ResNetV1c",
        depth=18,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        contract_dilation=True,
        norm_cfg=_norm,
        init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://resnet18_v1c"),
    ),
    dict(
        type="ASPPHead",
        in_channels=512,
        in_index=3,
        channels=128,
        dilations=(1, 12, 24, 36),
        **_head,
    ),
    dict(  # BGR, as loaded
        mean=[104.00698793, 116.66876762, 122.67891434],
        std=[1.0, 1.0, 1.0],
        bgr_to_rgb=False,
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_channels=256,
        in_index=2,
        channels=64,
        num_convs=1,
        concat_input=False,
        **_head,
    ),
)
model = dict(
    type="pld_mmdet.LAD",
    student=segmentor,
    weight=3.0,
    consistency=5.0,
    tau=4.0,
    noise=(0.03, 0.02),
    scale=100.0,
    code_step=0.1,
    aux_weight=0.4,
    student_aux_weight=0.02,
)
_sizes = [(50 * tenths, 50 * tenths) for tenths in range(5, 21)]  # 0.5 to 2
train_dataloader = loader(
    dict(
        **_base_.voc,
        pipeline=[
            _base_.load,
            _base_.label,
            dict(type="RandomChoiceResize", scales=_sizes, keep_ratio=True),
            dict(type="mmseg.RandomCrop", crop_size=(512, 512)),
            dict(type="RandomFlip", prob=0.5),
            # grey of their mean: 0 once it is subtracted
            dict(
                type="Pad", size=(512, 512), pad_val=dict(img=(104, 117, 123), seg=255)
            ),
            _base_.pack,
        ],
    ),
    16,
    train=True,
    seeded=True,
    workers=4,
)


def _sgd(rate):
    return optimizer("SGD", rate, momentum=0.9, weight_decay=1e-4)


stages = [
    stage("base", 40000, optim=_sgd(0.02)),
    stage("teacher", 40000, optim=_sgd(0.02)),
    stage("student", 40000, optim=_sgd(0.001)),
]
train_cfg = staged(*stages, val_interval=4000)
optim_wrapper = _sgd(0.001)
param_scheduler = [poly(0.9)]
default_hooks = dict(checkpoint=dict(interval=4000))
find_unused_parameters = True
