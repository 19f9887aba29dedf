"""Our methods inside somebody else's MMDetection project, without custom_imports."""

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers import tiny_faster_rcnn

ROOT = Path(__file__).resolve().parents[1]

CONFIG = """
default_scope = 'mmdet'
detector = {detector}
model = dict(type='pld_mmdet.LPLD', detector=detector)
pack = dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape',
    'img_shape', 'scale_factor', 'flip', 'flip_direction', 'homography_matrix'))
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='pld_mmdet.ImageFolder', data_root={images!r}, pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(128, 64), keep_ratio=True),
        dict(type='MultiBranch', branch_field=['weak', 'strong'], weak=[pack],
             strong=[dict(type='pld_mmdet.RandomColorJitter'), pack])]))
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01))
custom_hooks = [dict(type='pld_mmdet.TeacherEMAHook', keep=0.9),
                dict(type='pld_mmdet.AdaBNHook', num_images=4)]
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
"""

# What mmdet's own tools/train.py does with a config.
SCRIPT = """
import sys
from mmengine.config import Config
from mmengine.runner import Runner
cfg = Config.fromfile(sys.argv[1])
cfg.work_dir = sys.argv[2]
Runner.from_cfg(cfg).train()
"""


def test_stock_runner_trains_lpld_by_name(streets, tmp_path):
    (tmp_path / "my_config.py").write_text(
        CONFIG.format(
            detector=tiny_faster_rcnn(8).to_dict(),
            images=str(streets / "leftImg8bit_foggy" / "train"),
        )
    )
    (tmp_path / "train.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "train.py", "my_config.py", "out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "AdaBN: 20 layers re-estimated on 4 target images." in done.stdout
    assert (tmp_path / "out" / "epoch_1.pth").is_file()
