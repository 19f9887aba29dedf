"""Arguments of a config are compared with the signatures that will take them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from torch import nn

from pld_mmdet.adaptation import support
from pld_mmdet.engine.config import arguments
from pld_mmdet.engine.config.arguments import check_arguments, signature
from pld_mmdet.engine.run.stack import import_mmdet
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from tests.helpers import tiny_faster_rcnn


class Base(nn.Module):
    def __init__(self, depth, width=3, name="a"):
        super().__init__()


class Handed(Base):
    def __init__(self, size, *args, **kwargs):
        super().__init__(size, name="b", *args, **kwargs)  # noqa: B026


class Inherited(Handed):
    threshold = 0.5


class Other(Base):
    def __init__(self, scale=1, **rest):
        super().__init__(scale)
        self.rest = rest


class Two(Base):
    def __init__(self, scale, **rest):
        rest.setdefault("name", "c")
        super().__init__(**rest)


class Skips(Inherited, Base):
    def __init__(self, **rest):
        super(Handed, self).__init__(**rest)


@pytest.mark.parametrize(
    ("owner", "names", "required", "complete"),
    [
        (Base, ("depth", "width", "name"), {"depth"}, True),
        # size is handed over as depth, and name is taken
        (Handed, ("size", "width"), {"size"}, True),
        (Inherited, ("size", "width"), {"size"}, True),
        (Other, ("scale",), set(), False),  # kept, not handed on
        (Two, ("scale",), {"scale"}, False),  # read in between
        (Skips, (), set(), False),  # past some of its bases: nobody follows
        (nn.Module, (), set(), True),
        (dict, (), set(), False),  # written in C: nobody knows
        (lambda a, *, b=2: a, ("a", "b"), {"a"}, True),
    ],
)
def test_a_signature_follows_what_is_handed_on(owner, names, required, complete):
    found = signature(owner)
    assert found.names == names
    assert found.required == required
    assert found.complete is complete


def method(**more) -> Config:
    network = dict(type="pld_mmdet.SmallConvNet", num_classes=3)
    kd = dict(type="pld_mmdet.RampedKDForTest", student=network, teacher=dict(network))
    return Config({"model": kd | more})


ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module", autouse=True)
def registered():
    @MODELS.register_module(name="RampedKDForTest", force=True)
    class RampedKD(nn.Module):
        def __init__(self, student, teacher, threshold=0.5, tau=4.0):
            super().__init__()

    RampedKD.__module__ = "builtins"  # this file speaks of everything
    yield
    MODELS._module_dict.pop("RampedKDForTest")
    arguments._find.cache_clear()


def refused(cfg: Config, *words: str, leave=()) -> None:
    with pytest.raises(UserError) as caught:
        check_arguments(cfg, leave)
    for word in words:
        assert word in str(caught.value)


def test_a_misspelt_argument_names_its_place_and_the_nearest():
    check_arguments(method())
    check_arguments(method(threshold=0.7))
    refused(
        method(thresold=0.7),
        "model.thresold: RampedKD takes no argument 'thresold'.",
        "Did you mean model.threshold?",
    )
    refused(method(zzz=1), "It takes: threshold, tau.")
    cfg = method()
    del cfg.model.student
    refused(cfg, "model: RampedKD needs student", "Add model.student=...")
    cfg = method()
    cfg.model.type = "pld_mmdet.RampedDK"
    refused(cfg, "model.type: there is no 'pld_mmdet.RampedDK'")
    cfg.model.type = "RampedDKForTest"
    refused(cfg, "Did you mean 'pld_mmdet.RampedKDForTest'?")


RUN = dict(
    default_scope="mmdet",
    train_dataloader=dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type="DefaultSampler", shuffle=True),
        collate_fn=dict(type="pseudo_collate"),
        dataset=dict(
            type="RepeatDataset",
            times=2,
            dataset=dict(
                type="CocoDataset",
                ann_file="a.json",
                filter_cfg=dict(filter_empty_gt=True),
                metainfo=dict(classes=("car",)),
                pipeline=[
                    dict(type="LoadImageFromFile", backend_args=None),
                    dict(type="Resize", scale=(9, 7)),
                ],
            ),
        ),
    ),
    optim_wrapper=dict(
        type="OptimWrapper",
        optimizer=dict(type="SGD", lr=0.1),
        paramwise_cfg=dict(
            norm_decay_mult=0.0, custom_keys=dict(backbone=dict(lr_mult=0.1))
        ),
    ),
    param_scheduler=[dict(type="LinearLR", start_factor=0.1, by_epoch=False, end=9)],
    train_cfg=dict(by_epoch=False, max_iters=3),
    val_cfg=dict(type="ValLoop"),
    val_evaluator=dict(type="CocoMetric", ann_file="a.json"),
    custom_hooks=[dict(type="EarlyStoppingHook", monitor="mAP", priority=49)],
    default_hooks=dict(
        timer=dict(type="IterTimerHook"),
        param_scheduler=dict(type="ParamSchedulerHook"),
    ),
    visualizer=dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")]),
    randomness=dict(seed=3),
    helper=dict(type="CocoDataset", no_such_argument=1),  # a variable of the config
)
WRONG = {
    "train_dataloader.batch_sise": "DataLoader takes no argument",
    "train_dataloader.sampler.shufle": "DefaultSampler.*sampler.shuffle",
    "train_dataloader.collate_fn.pad": "pseudo_collate takes no argument",
    "train_dataloader.dataset.tmes": "RepeatDataset",
    "train_dataloader.dataset.dataset.filter_cfg.filter_empty": "dataset.*_empty_gt",
    "train_dataloader.dataset.dataset.metainfo.CLASSES": "metainfo.classes",
    "optim_wrapper.paramwise_cfg.norm_decay": "Constructor.*cfg.norm_decay_mult",
    "optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mul": "mean lr_mult",
    "train_dataloader.dataset.dataset.anno_file": "CocoDataset.*dataset.ann_file",
    "train_dataloader.dataset.dataset.pipeline.1.scales": "Resize.*pipeline.1.scale",
    "optim_wrapper.accumulativ_counts": "OptimWrapper",
    "optim_wrapper.optimizer.momentun": "SGD.*optimizer.momentum",
    "param_scheduler.0.start_facter": "LinearLR.*param_scheduler.0.start_factor",
    "train_cfg.max_itres": "IterBasedTrainLoop.*train_cfg.max_iters",
    "val_cfg.fp61": "ValLoop.*val_cfg.fp16",
    "val_evaluator.metrc": "CocoMetric.*val_evaluator.metric",
    "custom_hooks.0.monitr": "custom_hooks.0.monitor",
    "default_hooks.timer.interval": "IterTimerHook takes no argument",
    "visualizer.vis_backends.0.save_dri": "LocalVisBackend",
    "custom_hooks.0.type": "there is no",
    "optim_wrapper.optimizer.type": "there is no",
}


def test_all_that_the_runner_builds_is_walked_through():
    import_mmdet()
    check_arguments(Config(RUN))
    for place, words in WRONG.items():
        cfg = Config(RUN)
        cfg.merge_from_dict({place: "EarlyStopingHook"})
        with pytest.raises(UserError) as caught:
            check_arguments(cfg)
        said = " ".join(str(caught.value).split())
        assert said.startswith(f"{place}: "), said
        assert re.search(words, said), said
        check_arguments(cfg, leave=[place.split(".")[0]])  # what is not built


def test_parts_of_detectors_and_parts_by_name():
    import_mmdet()
    model = tiny_faster_rcnn()
    check_arguments(Config(dict(default_scope="mmdet", model=model)))
    model.roi_head.bbox_head.reg_class_agnostik = True
    refused(
        Config(dict(default_scope="mmdet", model=model)),
        "model.roi_head.bbox_head.reg_class_agnostik",
        "Did you mean model.roi_head.bbox_head.reg_class_agnostic?",
    )
    model = tiny_faster_rcnn()
    model.backbone.type = "mmdet.ResNett"
    refused(Config(dict(default_scope="mmdet", model=model)), "Did you mean 'ResNet'?")
    parts = dict(
        constructor="pld_mmdet.PartsOptimConstructor",
        critic=dict(optimizer=dict(type="SGD", lr=1)),
    )
    check_arguments(Config(dict(optim_wrapper=parts)))
    parts["critic"]["optimizer"]["rl"] = 1
    refused(Config(dict(optim_wrapper=parts)), "optim_wrapper.critic.optimizer.rl: SGD")


READ = {
    "test_cfg.rcnn.score_th": "Did you mean model.test_cfg.rcnn.score_thr?",
    "test_cfg.rcnn.max_per_imgs": "Did you mean model.test_cfg.rcnn.max_per_img?",
    "test_cfg.score_thr": "Did you mean model.test_cfg.rcnn.score_thr?",
    "test_cfg.rpn.nms_per": "Did you mean model.test_cfg.rpn.nms_pre?",
    "test_cfg.rcn": "Did you mean model.test_cfg.rcnn?",
    "test_cfg.rpn.zzz": "Leave it out.",
    "train_cfg.rpn.allowed_boarder": "Did you mean model.train_cfg.rpn.allowed_border?",
    "train_cfg.rpn_propsal": "Did you mean model.train_cfg.rpn_proposal?",
    "train_cfg.rpn_proposal.min_box_size": "model.train_cfg.rpn_proposal.min_bbox_size",
}


@pytest.mark.parametrize("place", READ)
def test_what_a_detector_does_not_read_of_its_settings(place):
    import_mmdet()
    cfg = Config(dict(default_scope="mmdet", model=tiny_faster_rcnn()))
    check_arguments(cfg)
    cfg.merge_from_dict({f"model.{place}": 3})
    refused(cfg, f"model.{place}: FasterRCNN reads no", READ[place])


class Reading(nn.Module):
    """Of another project: it may hand its settings to anybody."""

    def __init__(self, test_cfg, heads=()):
        super().__init__()
        self.thr = test_cfg.get("score_thr", 0.1)
        self.more = "nms_pre" in test_cfg and test_cfg["top_k"].small


def test_settings_of_a_foreign_class_are_refused_where_they_look_misspelt():
    for name in ("score_thr", "nms_pre", "top_k", "whatever"):
        model = dict(type=Reading, test_cfg={name: 3})
        check_arguments(Config(dict(model=model)))
    name = "nms_" + "prae"  # this file would be read as naming it
    refused(
        Config(dict(model=dict(type=Reading, test_cfg=[{name: 3}]))),
        f"model.test_cfg.0.{name}: Reading reads no {name!r} there.",
        "Did you mean model.test_cfg.0.nms_pre?",
    )


def test_old_names_that_mmengine_translates_are_taken():
    import_mmdet()
    model = tiny_faster_rcnn()
    model.backbone.dcn = dict(type="DCNv2", deformable_groups=1)
    check_arguments(Config(dict(default_scope="mmdet", model=model)))


def test_an_evaluator_of_several_metrics():
    import_mmdet()
    metrics = [dict(type="CocoMetric", ann_file="a.json")]
    both = dict(type="MultiDatasetsEvaluator", metrics=metrics, dataset_prefixes=["a"])
    cfg = Config(dict(default_scope="mmdet", val_evaluator=both))
    check_arguments(cfg)
    cfg.val_evaluator.metrics[0].ann_fil = "b.json"
    refused(cfg, "val_evaluator.metrics.0.ann_fil: CocoMetric takes no argument")


def test_a_built_object_and_a_class_are_taken_as_they_are():
    network = nn.Linear(2, 3)
    cfg = method(student=network)
    check_arguments(cfg)
    check_arguments(method(student=dict(type=nn.Linear, in_features=2)))  # out: unknown
    refused(method(student=dict(type=nn.Linear, infeatures=2)), "model.student.infeat")


class Reads(nn.Module):
    def __init__(self, student, teacher=None):
        student.pop("share_of_it")
        super().__init__()


def test_what_the_class_above_speaks_of_is_its_own():
    inner = dict(type=nn.Linear, in_features=2)
    check_arguments(
        Config(dict(model=dict(type=Reads, student=inner | {"share_of_it": 1})))
    )
    name = "share_of_" + "that"
    wrong = Config(dict(model=dict(type=Reads, student=inner | {name: 1})))
    refused(wrong, f"model.student.{name}: Linear takes")


def test_what_a_part_needs_is_asked_too():
    check_arguments(method(student=dict(type="pld_mmdet.MLP", sizes=[4, 3])))
    refused(
        method(student=dict(type="pld_mmdet.MLP")),
        "model.student: MLP needs sizes, which is not given.",
        "Add model.student.sizes=...",
    )


def test_a_scope_of_its_own_reaches_what_lies_below():
    inner = dict(type="FPN", in_channels=[1], out_channels=2, num_out=1)
    outer = dict(type="pld_mmdet.RampedKDForTest", student=inner, teacher=None)
    check_arguments(Config(dict(model=outer)))  # nobody knows an FPN here
    refused(Config(dict(model=outer | {"_scope_": "mmdet"})), "model.student.num_out")


@pytest.mark.parametrize(
    "name",
    [
        "detr/detr_r18_8xb2-500e_coco",
        "yolox/yolox_tiny_8xb8-300e_coco",
        "vfnet/vfnet_r50_fpn_1x_coco",
    ],
)
def test_stock_configs_pass(name):
    import_mmdet()
    check_arguments(Config.fromfile(support.stock_configs() / f"{name}.py"))


def test_no_detector_is_imported_for_a_classifier():
    code = """import sys
from mmengine.config import Config
from pld_mmdet.engine.config.arguments import check_arguments
check_arguments(Config.fromfile("configs/bd_kd/toy.py"))
sys.exit("mmdet" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT)
    assert done.returncode == 0
