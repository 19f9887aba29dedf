# MEND on random maps of 8 symbols: a GPT-2 that learns a map from its context reads 4
# vectors in place of 16 demonstrations.
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy_val.py"]
from pld_mmdet.recipes import loader, loaders, optimizer, stage, staged
from pld_mmdet.recipes.language import gpt2
from pld_mmdet.recipes.tables import in_parts, lengths, row, table

maps = dict(type="pld_mmdet.RandomMaps")
train_dataloader, val_dataloader, test_dataloader = loaders(
    maps,
    64,
    train=dict(part="train", size=20000),
    val=dict(part="val", size=500),
    test=dict(part="test", size=1000),
    eval_batch=500,
)
network = gpt2(80, 32, 64, initializer_range=0.125)
model = dict(type="pld_mmdet.MEND", llm=network, hypernet=network, vectors=4)
prompts = loader(dict(maps, part="train", size=20000, short=0.5), 64, train=True)
train_cfg = staged(
    stage("llm", 500, data=prompts), stage("pretrain", 200), stage("finetune", 200)
)
optim_wrapper = optimizer("Adam", lr=2e-3)
find_unused_parameters = True  # the hypernetwork has no use for its own head

taught = dict(init="none")  # the LLM of the first row
still = lengths(0, 0, 1)
read = "model.predict_on="
experiment = table(
    "mend",
    row(
        "none",
        "No demonstrations",
        *lengths(None, 0, 1),
        evaluate=dict(test=[read + "none"]),
    ),
    row(
        "first_4",
        "The first 4 of 16",
        *still,
        **taught,
        evaluate=dict(test=[read + "first_4"]),
    ),
    row(
        "ce",
        "4 vectors, cross-entropy only",
        *lengths(0, 0, 400),
        "model.kl_weight=0",
        **taught,
    ),
    row("mend", "MEND, 4 vectors", *lengths(0), **taught),
    row(
        "all",
        "All 16 demonstrations",
        *still,
        **taught,
        evaluate=dict(test=[read + "all"]),
    ),
    columns={"accuracy": ("test", "accuracy"), "100 x NLL": ("test", "nll")},
    reported="hypernetwork of the last iteration",
)
walk = [
    *lengths(1, 1, 1),
    "train_dataloader.dataset.size=64",
    "train_cfg.stages.0.dataloader.dataset.size=64",
    *in_parts("dataset.size=8"),
]
