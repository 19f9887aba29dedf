# UnFuSeD's steps 3 and 4 for one task, here the 35 words of Speech Commands, with the
# released settings (Sreyan88/LAPE, 81ba8d9): SGD 0.03, 50 epochs of batches of 64 on
# pseudo-labels, Adam 1e-3, 100 epochs of batches of 32 on labels. The labeller comes
# with weights (`load_from`, entries `labeller.*`); to train it here, put a stage `ssl`
# first.
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy.py"]

from pld_mmdet.recipes import loader, optimizer, stage, staged

data_root = "data/speech_commands/"
how_to_get = dict(
    data="mkdir -p data/speech_commands && put the 16-bit WAV files of 16 kHz into "
    "data/speech_commands/{train,test}/<class>/<name>.wav"
)
sounds = 84843  # of the training part


def waves(part):
    return dict(type="pld_mmdet.WaveFolder", data_root=data_root + part)


model = dict(
    type="pld_mmdet.UnFuSeD",
    encoder=dict(type="pld_mmdet.AudioNTT", bins=64, width=64, dim=2048),
    num_samples=sounds,
    num_classes=35,
)
load_from = "data/unfused_labeller.pth"
fine_tune = True  # that file has the labeller only
train_dataloader = loader(waves("train"), 64, train=True, seeded=True, workers=8)
test_dataloader = loader(waves("test"), 256, workers=8)
train_cfg = staged(
    stage("labels", 0, work=loader(waves("train"), 256, workers=8)),
    stage("unfused", 50 * (sounds // 64)),
    stage(
        "finetune",
        100 * (sounds // 32),
        data=loader(waves("train"), 32, train=True, seeded=True, workers=8),
        optim=optimizer("Adam", 1e-3),
    ),
)
optim_wrapper = optimizer("SGD", 0.03, momentum=0.9, weight_decay=1e-4)
param_scheduler = []  # theirs: none
find_unused_parameters = True
