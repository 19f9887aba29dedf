# CycleAlign on endings in three tones: a GPT-2 learns all tones alike, then three
# rounds make it polite. How examples help the ranker is built in.
_base_ = "../_base_/toy_runtime.py"
from pld_mmdet.recipes import loader, loaders, optimizer, stage, staged
from pld_mmdet.recipes.language import gpt2
from pld_mmdet.recipes.tables import in_parts, lengths, row, table

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
    network=gpt2(32, 8, 64, dropout=True),
    ranker=dict(type="pld_mmdet.ToneRanker"),
    samples=(300, 5),
    prompt=3,
)
prompts = loader(train_dataloader["dataset"], 100)
train_cfg = staged(
    stage("sft", 400), *(stage(f"round_{i}", 30, work=prompts) for i in (1, 2, 3))
)
optim_wrapper = optimizer("Adam", lr=1e-3)
taught = dict(init="sft")  # from the first row's model
given, static = lengths(0), "model.cycle=False"
experiment = table(
    "cyclealign",
    row("sft", "SFT on the corpus", static, *lengths(None, 0, 0, 0)),
    row(
        "best",
        "Best of 3 by the static ranker, SFT",
        *given,
        static,
        "model.ranking=none",
        **taught,
    ),
    row("one_way", "No demonstrations", *given, static, **taught),
    row("cyclealign", "CycleAlign", *given, **taught),
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
walk = [*lengths(1, 1, 1, 1), *in_parts("dataset.size=4")]
