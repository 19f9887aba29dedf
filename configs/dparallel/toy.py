# dParallel on words that may be spelled from any letter on: a BERT of 2 x 64 learns to
# fill masks, answers 1024 prompts one letter a call, and learns from these answers.
_base_ = "../_base_/toy_runtime.py"
from pld_mmdet.recipes import loader, loaders, optimizer, stage, staged
from pld_mmdet.recipes.tables import row, table

train = dict(type="pld_mmdet.RotatedWords", part="train", size=1024)
train_dataloader, val_dataloader, test_dataloader = loaders(
    dict(type="pld_mmdet.RotatedWords"),
    64,
    train=dict(part="train", size=1024),
    val=dict(part="val", size=256),
    test=dict(part="test", size=512),
)
val_evaluator = test_evaluator = dict(type="pld_mmdet.RotatedWordsMetric")
val_cfg = test_cfg = dict()

model = dict(
    type="pld_mmdet.DParallel",
    network=dict(
        type="pld_mmdet.EncoderTransformer",
        task="MaskedLM",
        config=dict(
            model_type="bert",
            vocab_size=33,
            max_position_embeddings=16,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=128,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.125,  # with BERT's 0.02 places are not learnt in time
        ),
    ),
    mask_id=32,
    block=4,
    weight=2.0,
    samples=(1024, 15),
    thresholds=(0.1, 0.2, 0.3, 0.5),
)
train_cfg = staged(
    stage("base", 1000, optim=optimizer("Adam", lr=2e-3)),
    stage("distill", 200, work=loader(train, 256)),
)
optim_wrapper = optimizer("Adam", lr=2e-4)

distil = "train_cfg.stages.0.max_iters=0"
experiment = table(
    "dparallel",
    row("base", "Base model", "train_cfg.stages.1.max_iters=0", trivial=True),
    row("w0", "Consistency only, w = 0", distil, "model.weight=0", init="base"),
    row("dparallel", "dParallel, w = 2", distil, init="base"),
    metric="calls_0.5",
    percent=False,
    lower_is_better=True,
    columns={
        "calls, 0.1": ("test", "calls_0.1"),
        "valid, 0.1": ("test", "valid_0.1"),
        "calls, 0.3": ("test", "calls_0.3"),
        "valid, 0.3": ("test", "valid_0.3"),
        "calls, 0.5": ("test", "calls_0.5"),
        "valid, 0.5": ("test", "valid_0.5"),
    },
    reported="network of the last iteration",
)
walk = [
    "train_cfg.stages.0.max_iters=1",
    "train_cfg.stages.1.max_iters=2",
    "train_dataloader.batch_size=4",
    "val_dataloader.dataset.size=4",
    "test_dataloader.dataset.size=4",
]
