# Trans-Encoder, self-distillation of RoBERTa-base on STS and SICK-R (authors' code,
# 368f722, train_self_distill.sh). `number` stands for the lines of pairs.jsonl: their
# raw pairs without repetitions, whose number the authors do not state.
_base_ = "../_base_/toy_runtime.py"
from pld_mmdet.recipes import loader, poly, rise_and_fall, stage, staged
from pld_mmdet.recipes.language import adamw

encoded = dict(
    type="pld_mmdet.PairText",
    data_root="data/sts",
    tokenizer="data/unsup-simcse-roberta-base",
    max_length=32,
)
pairs = dict(**encoded, ann_file="pairs.jsonl")
both_orders = loader(dict(**pairs, both_orders=True), 32, train=True, workers=4)
train_dataloader = loader(pairs, 128, train=True, workers=4)
every = loader(pairs, 256)
val_dataloader = loader(dict(**encoded, ann_file="dev.jsonl"), 256)
test_dataloader = loader(dict(**encoded, ann_file="test.jsonl"), 256)
val_evaluator = test_evaluator = dict(type="pld_mmdet.Spearman")
val_cfg = test_cfg = dict()

number = 30000
model = dict(
    type="pld_mmdet.TransEncoder",
    families=[
        dict(
            bi=dict(
                type="pld_mmdet.PooledTransformer",
                pretrained="data/unsup-simcse-roberta-base",
                pooling="cls",
            ),
            cross=dict(
                type="pld_mmdet.JointTransformer",
                pretrained="data/roberta-base",
                between=2,  # </s>
            ),
        )
    ],
    pairs=number,
    begin="fresh",
)


def adam(rate):
    return adamw(rate, eps=1e-8, half=True, clip=1.0, spare_norms=True)


cross_steps = -(-2 * number // 32)  # one pass over both orders
bi_steps = 10 * -(-number // 128)
optim_wrapper = adam(5e-5)
param_scheduler = [poly(1.0, begin=0)]
cross = dict(
    steps=cross_steps,
    data=both_orders,
    optim=adam(2e-5),
    schedule=rise_and_fall(-(-cross_steps // 10)),
)
bi = dict(
    steps=bi_steps, data=train_dataloader, optim=optim_wrapper, schedule=param_scheduler
)
train_cfg = staged(
    *[
        stage(f"{kind}_{cycle}", work=every, **one)
        for cycle in (1, 2, 3)
        for kind, one in (("cross", cross), ("bi", bi))
    ]
)
find_unused_parameters = True
how_to_get = dict(
    data="write all pairs of STS12-16, STS-B and SICK-R as data/sts/pairs.jsonl (text, "
    "pair a line), STS-B's dev part as dev.jsonl and a test part as test.jsonl (with "
    "label); get princeton-nlp/unsup-simcse-roberta-base and "
    "FacebookAI/roberta-base as folders of those names in data/"
)
