# MEND on random maps of 8 symbols: a GPT-2 that learns a map from its context reads 4
# vectors in place of 16 demonstrations.
_base_ = "../_base_/toy_runtime.py"
from pld_mmdet.recipes import loader, loaders, optimizer, stage, staged
from pld_mmdet.recipes.tables import row, table

maps = dict(type="pld_mmdet.RandomMaps")
train_dataloader, val_dataloader, test_dataloader = loaders(
    maps,
    64,
    train=dict(part="train", size=20000),
    val=dict(part="val", size=500),
    test=dict(part="test", size=1000),
    eval_batch=500,
)
val_evaluator = test_evaluator = dict(type="pld_mmdet.ClassificationMetric")
val_cfg = test_cfg = dict()
gpt2 = dict(
    type="pld_mmdet.CausalTransformer",
    config=dict(model_type="gpt2", vocab_size=80, n_positions=32, n_embd=64)
    | dict(n_layer=2, n_head=4, initializer_range=0.125)
    | dict(embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0),
)
model = dict(type="pld_mmdet.MEND", llm=gpt2, hypernet=gpt2, vectors=4)
prompts = loader(dict(maps, part="train", size=20000, short=0.5), 64, train=True)
train_cfg = staged(
    stage("llm", 500, data=prompts), stage("pretrain", 200), stage("finetune", 200)
)
optim_wrapper = optimizer("Adam", lr=2e-3)
find_unused_parameters = True  # the hypernetwork has no use for its own head

lengths = "train_cfg.stages.{}.max_iters={}"
given = lengths.format(0, 0)  # the LLM of the first row
still = [given, lengths.format(1, 0), lengths.format(2, 1)]
read = "model.predict_on="
experiment = table(
    "mend",
    row(
        "none",
        "No demonstrations",
        lengths.format(1, 0),
        lengths.format(2, 1),
        evaluate=dict(test=[read + "none"]),
    ),
    row(
        "first_4",
        "The first 4 of 16",
        *still,
        init="none",
        evaluate=dict(test=[read + "first_4"]),
    ),
    row(
        "ce",
        "4 vectors, cross-entropy only",
        given,
        lengths.format(1, 0),
        lengths.format(2, 400),
        "model.kl_weight=0",
        init="none",
    ),
    row("mend", "MEND, 4 vectors", given, init="none"),
    row(
        "all",
        "All 16 demonstrations",
        *still,
        init="none",
        evaluate=dict(test=[read + "all"]),
    ),
    columns={"accuracy": ("test", "accuracy"), "100 x NLL": ("test", "nll")},
    reported="hypernetwork of the last iteration",
)
walk = [
    *[lengths.format(i, 1) for i in range(3)],
    "train_dataloader.dataset.size=64",
    "train_cfg.stages.0.dataloader.dataset.size=64",
    "val_dataloader.dataset.size=8",
    "test_dataloader.dataset.size=8",
]
