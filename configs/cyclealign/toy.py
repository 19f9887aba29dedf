# CycleAlign on endings in three tones: a GPT-2 learns all tones alike, then three
# rounds make it polite. How examples help the ranker is built in.
_base_ = "../_base_/toy_runtime.py"
from pld_mmdet.recipes import loader, loaders, optimizer, stage, staged
from pld_mmdet.recipes.tables import row, table

train = dict(type="pld_mmdet.Endings", part="train", size=300)
train_dataloader, val_dataloader, test_dataloader = loaders(
    dict(type="pld_mmdet.Endings"),
    32,
    train=dict(part="train", size=300),
    val=dict(part="val", size=500),
    test=dict(part="test", size=500),
)
val_evaluator = test_evaluator = dict(type="pld_mmdet.TokenMeanMetric")
val_cfg = test_cfg = dict()
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
prompts = loader(train, 100)
train_cfg = staged(
    *[stage("sft", 400)] + [stage(f"round_{i}", 30, work=prompts) for i in (1, 2, 3)]
)
optim_wrapper = optimizer("Adam", lr=1e-3)
given = "train_cfg.stages.0.max_iters=0"  # from the first row's model
still = [f"train_cfg.stages.{i}.max_iters=0" for i in (1, 2, 3)]
experiment = table(
    "cyclealign",
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
    row(
        "one_answer",
        "The ranker's first of the corpus, for every prompt",
        baseline=dict(type="one_answer", prompt=3),
    ),
    metric="judged",
    columns={
        "politeness": ("test", "judged"),
        "ranker right, last round": ("test", "ranker"),
    },
    reported="network of the last iteration",
)
walk = [
    *[f"train_cfg.stages.{i}.max_iters=1" for i in range(4)],
    "val_dataloader.dataset.size=4",
    "test_dataloader.dataset.size=4",
]
