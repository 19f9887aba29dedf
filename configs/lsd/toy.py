# LSD on ring sequences (6 tokens, length 12) whose scores are exact: no network is
# trained. Four steps imitate 128; each row answers with its own M steps and one last
# call. `phi=0.5` without learning is the control: slower unmasking alone leaves more
# tokens to the last call.
_base_ = "../_base_/toy_runtime.py"

from pld_mmdet.recipes import iterations, loaders, optimizer
from pld_mmdet.recipes.tables import in_parts, row, table

model = dict(
    type="pld_mmdet.LSD",
    network=dict(type="pld_mmdet.RingLanguage", tokens=6, length=12),
    steps=4,
    teacher_steps=128,
    zeta=0.1,  # one of twelve tokens; 5 % would be none
)
train_dataloader, val_dataloader, test_dataloader = loaders(
    dict(type="pld_mmdet.MaskedStarts", tokens=6, length=12),
    256,
    train=dict(size=4096),
    val=dict(size=4000),
    test=dict(size=8000),
    eval_batch=4000,
)
val_evaluator = test_evaluator = dict(type="pld_mmdet.RingViolations")
val_cfg = test_cfg = dict()
train_cfg = iterations(60)
optim_wrapper = optimizer("Adam", 0.05)
custom_hooks = [*_base_.custom_hooks, dict(type="pld_mmdet.KeptSamplesHook")]
still = ["train_cfg.max_iters=1", "optim_wrapper.optimizer.lr=0"]
half, eight = "model.phi=0.5", "model.steps=8"
own = dict(test=[])  # tested with the row's own options
experiment = table(
    "lsd",
    row("plain", "Euler, 4 steps", *still, evaluate=own, trivial=True),
    row("constant", "... all scores halved", *still, half, evaluate=own),
    row("strict", "LSD, strict", "model.zeta=0", evaluate=own),
    row("lsd", "LSD, relaxed", evaluate=own),
    row("plus", "LSD+", "model.learn_times=True", evaluate=own),
    row("plain_8", "Euler, 8 steps", *still, eight, evaluate=own),
    row("constant_8", "... all scores halved", *still, eight, half, evaluate=own),
    row("lsd_8", "LSD, 8 steps", eight, evaluate=own),
    metric="violations",
    lower_is_better=True,
    reported="the sampler",
    pictures=dict(draw="pld_mmdet.diffusion.scores.pictures.tokens"),
    columns={
        "violations": ("test", "violations"),
        "by the last call": ("test", "final_share"),
    },
)
walk = [
    "train_cfg.max_iters=2",
    "train_cfg.val_interval=2",
    "train_dataloader.batch_size=16",
    "model.teacher_steps=8",
    *in_parts("dataset.size=32"),
]
