# CycleAlign on endings in three tones: a GPT-2 learns all tones alike, then three
# rounds make it polite. How examples help the ranker is built in.
_base_ = "../_base_/toy_runtime.py"
from pld_mmdet.recipes import loader, loaders, optimizer, row

train = dict(type="pld_mmdet.Endings", part="train", size=300)
train_dataloader, val_dataloader, test_dataloader = loaders(
    dict(type="pld_mmdet.Endings"),
    32,
    train=dict(part="train", size=300),
    val=dict(part="val", size=500),
    test=dict(part="test", size=500),
)
val_evaluator = dict(type="pld_mmdet.TokenMeanMetric")
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
model = dict(
    type="pld_mmdet.CycleAlign",
    network=dict(
        type="pld_mmdet.CausalTransformer",
        config=dict(model_type="gpt2", vocab_size=32, n_positions=8)
        | dict(n_embd=64, n_layer=2, n_head=4),
    ),
    ranker=dict(type="pld_mmdet.ToneRanker"),
    samples=(300, 5),
    prompt=3,
)
prompts = loader(train, 100, train=False)
train_cfg = dict(
    type="pld_mmdet.StagedLoop",
    stages=[dict(name="sft", max_iters=400)]
    + [
        dict(name=f"round_{i}", max_iters=30, work_dataloader=prompts)
        for i in (1, 2, 3)
    ],
)
optim_wrapper = optimizer("Adam", lr=1e-3)
given = "train_cfg.stages.0.max_iters=0"  # from the first row's model
still = [f"train_cfg.stages.{i}.max_iters=0" for i in (1, 2, 3)]
experiment = dict(
    name="cyclealign",
    metric="judged",
    columns={
        "politeness": ("test", "judged"),
        "ranker right, last round": ("test", "ranker"),
    },
    reported="network of the last iteration",
    rows=[
        row("sft", "SFT on the corpus", "model.cycle=False", *still),
        row(
            "best",
            "Best of 3 by the static ranker, SFT",
            given,
            "model.cycle=False",
            "model.ranking=none",
            init="sft",
        ),
        row("one_way", "No demonstrations", given, "model.cycle=False", init="sft"),
        row("cyclealign", "CycleAlign", given, init="sft"),
    ],
)
walk = [
    *[f"train_cfg.stages.{i}.max_iters=1" for i in range(4)],
    "val_dataloader.dataset.size=4",
    "test_dataloader.dataset.size=4",
]
