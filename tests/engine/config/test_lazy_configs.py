"""New-style configs, whose types are imported classes, are read as old-style ones."""

from mmengine.config import Config

from pld_mmdet.engine.config.configs import read_config
from pld_mmdet.engine.config.lazy_configs import with_names

NEW_STYLE = """
from mmcv.ops import RoIAlign, nms
from mmdet.models import FasterRCNN, SingleRoIExtractor
from mmdet.models.losses.smooth_l1_loss import L1Loss  # a function hides the file
from mmengine.model import PretrainedInit
from mmdet.models.layers.ema import ExpMomentumEMA
from torch import optim
from torch.nn import BatchNorm2d, ModuleList, SyncBatchNorm
from torch.nn.modules.activation import SiLU

from pld_mmdet.detection import LPLD

model = dict(
    type=LPLD,
    detector=dict(
        type=FasterRCNN,
        backbone=dict(
            norm_cfg=dict(type=BatchNorm2d),
            init_cfg=[dict(type=PretrainedInit, checkpoint="a/b.pth")],
        ),
        loss=dict(type=L1Loss),
        roi=dict(type=SingleRoIExtractor, roi_layer=dict(type=RoIAlign)),
        test_cfg=dict(nms=dict(type=nms, iou_threshold=0.37)),
        other=({"type": ModuleList}, {"type": "my.own.Word"}),
    ),
)
custom_hooks = [dict(type="EMAHook", ema_type=ExpMomentumEMA, momentum=0.0003)]
layers = dict(norm_cfg=dict(type=SyncBatchNorm), act_cfg=dict(type=SiLU))
optim_wrapper = dict(optimizer=dict(type=optim.SGD, lr=0.003))
"""


def test_classes_become_the_names_that_registries_know(tmp_path):
    file = tmp_path / "new.py"
    file.write_text(NEW_STYLE)
    cfg = read_config(file)
    assert cfg.default_scope == "mmdet"
    assert cfg.model.type == "pld_mmdet.LPLD"
    detector = cfg.model.detector
    assert detector.type == "FasterRCNN"
    assert detector.loss.type == "L1Loss"
    assert detector.backbone.norm_cfg.type == "BN"
    assert detector.backbone.init_cfg == [dict(type="Pretrained", checkpoint="a/b.pth")]
    assert detector.roi == dict(
        type="SingleRoIExtractor", roi_layer=dict(type="RoIAlign")
    )
    assert detector.test_cfg.nms == dict(type="nms", iou_threshold=0.37)
    # in no registry: the import path, and a word that only looks like one
    kinds = [part["type"] for part in detector.other]
    assert kinds == ["torch.nn.ModuleList", "my.own.Word"]
    assert cfg.optim_wrapper.optimizer == dict(type="SGD", lr=0.003)
    assert cfg.custom_hooks[0].ema_type == "ExpMomentumEMA"
    assert [cfg.layers[key].type for key in cfg.layers] == ["SyncBN", "SiLU"]
    assert cfg.filename == str(file)
    assert cfg.text == NEW_STYLE
    cfg.dump(tmp_path / "old.py")
    assert read_config(tmp_path / "old.py").to_dict() == cfg.to_dict()


def test_a_scope_of_its_own_is_kept(tmp_path):
    file = tmp_path / "new.py"
    file.write_text(NEW_STYLE + 'default_scope = "pld_mmdet"\n')
    cfg = read_config(file)
    assert cfg.default_scope == "pld_mmdet"
    assert (cfg.model.type, cfg.model.detector.type) == ("LPLD", "mmdet.FasterRCNN")


def test_the_old_style_is_left_as_it_is(tmp_path):
    (tmp_path / "old.py").write_text('model = dict(type="torch.nn.BatchNorm2d")\n')
    cfg = Config.fromfile(tmp_path / "old.py")
    assert with_names(cfg) is cfg
