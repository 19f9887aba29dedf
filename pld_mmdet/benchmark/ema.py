"""The teacher's update against mmdet's hook."""

import copy
import logging

import torch
from mmdet.engine.hooks import MeanTeacherHook
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

from pld_mmdet.benchmark.images import ROOT
from pld_mmdet.benchmark.networks import KEEP
from pld_mmdet.benchmark.plan import Plan
from pld_mmdet.benchmark.timing import Comparison, run_in_turn
from pld_mmdet.distill.ema import Pairing, paired_tensors

OURS = "TeacherEMAHook"
THEIRS = "MeanTeacherHook"
BARE = "bare lerp_ loop"


def faster_rcnn_r50_fpn() -> nn.Module:
    """Faster R-CNN R50-FPN for 80 classes (41.5 M parameters), random weights."""
    cfg = Config.fromfile(str(ROOT / "configs/_base_/models/faster_rcnn_r18_small.py"))
    model = cfg.small_detector
    model.backbone.update(depth=50, base_channels=64)
    model.neck.update(in_channels=[256, 512, 1024, 2048], out_channels=256)
    model.rpn_head.update(in_channels=256, feat_channels=256)
    model.roi_head.bbox_roi_extractor.update(out_channels=256)
    model.roi_head.bbox_head.update(
        in_channels=256,
        fc_out_channels=1024,
        num_classes=80,
        reg_class_agnostic=False,
    )
    logging.disable(logging.INFO)
    try:
        detector = MODELS.build(model)
    finally:
        logging.disable(logging.NOTSET)
    return detector


def ema(plan: Plan) -> list[Comparison]:
    """One update of all tensors, buffers included.

    The least that it can cost is a loop of ``lerp_`` over tensors paired beforehand.
    """
    holder = nn.Module()
    holder.student = faster_rcnn_r50_fpn()
    holder.teacher = copy.deepcopy(holder.student)
    with torch.no_grad():
        for tensor in holder.student.parameters():
            tensor.add_(0.01)
    hook = MeanTeacherHook(momentum=1 - KEEP, skip_buffer=False)
    pairs = Pairing(holder.teacher, holder.student)  # as the hook does, before step 1
    bare = [
        pair
        for group in paired_tensors(holder.teacher, holder.student)
        for pair in group
        if pair[0].is_floating_point()
    ]

    @torch.no_grad()
    def loop() -> None:
        for ours, theirs in bare:
            ours.lerp_(theirs, 1 - KEEP)

    sides = {
        OURS: lambda: pairs.update(KEEP),
        THEIRS: lambda: hook.momentum_update(holder, 1 - KEEP),
        BARE: loop,
    }
    rounds = plan.choose(31, 5)
    tick = plan.counter((rounds + 2) * 3)
    weights = sum(p.numel() for p in holder.student.parameters()) / 1e6
    setting = f"Faster R-CNN R50-FPN, {weights:.1f} M parameters, CPU"
    timings = run_in_turn(sides, rounds, 2, tick)
    return [
        Comparison(
            "EMA / mmdet's hook",
            setting,
            timings,
            OURS,
            (THEIRS,),
            0.7,
            ["The hook runs with skip_buffer=False: both average buffers too."],
        ),
        Comparison(
            "EMA / bare loop",
            setting,
            timings,
            OURS,
            (BARE,),
            1.05,
            ["The bare loop checks nothing and leaves integer buffers alone."],
        ),
    ]
