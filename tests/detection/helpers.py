"""Batches and detectors for the tests of the wrappers."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.model import BaseModule
from mmengine.structures import InstanceData

from pld_mmdet.distill.feature_tap import FeatureTap
from tests.helpers import tiny_faster_rcnn


@MODELS.register_module()
class TinyStage(BaseModule):
    """Stands for res5 of a C4 head: halves the RoI feature and widens it."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(32, 48, 3, stride=2, padding=1)

    def forward(self, x):
        return self.conv(x).relu()


def batch_of(
    images: int,
    size: int = 64,
    seed: int = 0,
    flip_strong: bool = False,
    poison: bool = False,
) -> dict:
    """A multi-branch training batch of random images, as collated."""
    generator = torch.Generator().manual_seed(seed)
    weak = [
        torch.randint(0, 256, (3, size, size), generator=generator, dtype=torch.uint8)
        for _ in range(images)
    ]
    eye = np.eye(3, dtype=np.float32)
    mirror = np.array([[-1, 0, size], [0, 1, 0], [0, 0, 1]], np.float32)
    strong = [(i // 2).flip(-1) if flip_strong else i // 2 for i in weak]
    matrices = dict(weak=eye, strong=mirror if flip_strong else eye)
    samples = {
        view: [
            DetDataSample(
                metainfo=dict(
                    img_id=n,
                    img_path=f"{n}.png",
                    ori_shape=(size, size),
                    img_shape=(size, size),
                    scale_factor=(1.0, 1.0),
                    flip=flip_strong and view == "strong",
                    homography_matrix=matrices[view],
                )
            )
            for n in range(images)
        ]
        for view in ("weak", "strong")
    }
    if poison:
        for sample in samples["weak"] + samples["strong"]:
            sample.gt_instances = InstanceData(
                bboxes=torch.tensor([[0.0, 0.0, 9.0, 9.0]]), labels=torch.tensor([2])
            )
    return dict(inputs=dict(weak=weak, strong=strong), data_samples=samples)


def fresh(model, batch: dict) -> dict:
    """Losses of one step on a copy of ``batch`` (the preprocessor works in place)."""
    data = model.data_preprocessor(copy.deepcopy(batch), training=True)
    return model.loss(data["inputs"], data["data_samples"])


def give_confidence(model) -> None:
    """Spread the class logits of random networks so that some boxes are confident."""
    heads = model.teacher.roi_head.bbox_head
    heads = heads if isinstance(heads, torch.nn.ModuleList) else [heads]
    data = model.data_preprocessor(batch_of(2), training=True)
    with FeatureTap(**{str(n): head.fc_cls for n, head in enumerate(heads)}) as tap:
        model.teacher.predict(data["inputs"]["weak"], data["data_samples"]["weak"])
    generator = torch.Generator().manual_seed(1)
    for n, head in enumerate(heads):
        features = tap.inputs(str(n))[0]
        weight = torch.randn(head.fc_cls.weight.shape, generator=generator)
        logits = features @ weight.T
        with torch.no_grad():
            head.fc_cls.weight.copy_(weight * 2 / logits.std(0)[:, None])
            head.fc_cls.bias.copy_(-logits.mean(0) * 2 / logits.std(0))
    model.student.load_state_dict(model.teacher.state_dict())


def unlike_the_teacher(model, scale: float = 0.3) -> None:
    """Move the student's weights, so that a test sees who of the two answers."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in model.student.parameters():
            noise = torch.randn(p.shape, generator=generator)
            p += scale * p.abs().mean() * noise


def tiny_c4(num_classes: int = 3) -> dict:
    """A Faster R-CNN without FPN whose RoI head shares the last residual stage."""
    model = tiny_faster_rcnn(num_classes)
    model.pop("neck")
    model.backbone.update(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1))
    model.backbone.out_indices = (2,)
    model.rpn_head.update(in_channels=32, feat_channels=32)
    model.rpn_head.anchor_generator.update(scales=[1, 2], strides=[16])
    model.roi_head.update(
        shared_head=dict(type="TinyStage"),
        bbox_roi_extractor=dict(
            type="mmdet.SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=6, sampling_ratio=0),
            out_channels=32,
            featmap_strides=[16],
        ),
    )
    head = model.roi_head.bbox_head
    head.pop("fc_out_channels")
    head.update(
        type="mmdet.BBoxHead", with_avg_pool=True, in_channels=48, roi_feat_size=3
    )
    return model


def tiny_cascade(num_classes: int = 3) -> dict:
    """A Cascade R-CNN of three stages."""
    model = tiny_faster_rcnn(num_classes)
    model.type = "mmdet.CascadeRCNN"
    model.roi_head.type = "mmdet.CascadeRoIHead"
    model.roi_head.update(num_stages=3, stage_loss_weights=[1, 0.5, 0.25])
    head = copy.deepcopy(model.roi_head.bbox_head)
    head.reg_class_agnostic = True
    model.roi_head.bbox_head = [copy.deepcopy(head) for _ in range(3)]
    model.train_cfg.rcnn = [copy.deepcopy(model.train_cfg.rcnn) for _ in range(3)]
    return model


def on_processes(monkeypatch, module, size: int, work) -> list:
    """What ``work(rank)`` gives on threads that a module takes for processes."""
    here, meet, held = threading.local(), threading.Barrier(size, timeout=30), {}

    def gather(value):
        held[here.rank] = value
        meet.wait()
        values = [held[rank] for rank in range(size)]
        meet.wait()
        return values

    def reduce(tensor, op):
        parts = torch.stack(gather(tensor.clone()))
        tensor.copy_(dict(sum=parts.sum, mean=parts.mean)[op](0))

    def start(rank):
        here.rank = rank
        return work(rank)

    stand_ins = dict(get_rank=lambda: here.rank, get_world_size=lambda: size)
    stand_ins |= dict(all_gather_object=gather, all_reduce=reduce)
    with monkeypatch.context() as patch, ThreadPoolExecutor(size) as pool:
        for name, stand_in in stand_ins.items():
            patch.setattr(module, name, stand_in, raising=False)
        return list(pool.map(start, range(size)))
