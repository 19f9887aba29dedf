# Trans-Encoder on sentences of concepts with synonyms: both networks begin with word
# vectors of a corpus; two cycles over 2000 pairs without labels.
_base_ = "../_base_/toy_runtime.py"
from pld_mmdet.recipes import loader, loaders, optimizer, stage, staged
from pld_mmdet.recipes.tables import in_parts, lengths, row, table

pairs = dict(type="pld_mmdet.ConceptPairs", part="train", size=2000)
both_orders = loader(dict(**pairs, both_orders=True), 32, train=True)
train_dataloader, val_dataloader, test_dataloader = loaders(
    dict(type="pld_mmdet.ConceptPairs"),
    32,
    train=dict(part="train", size=2000),
    val=dict(part="val", size=500),
    test=dict(part="test", size=1000),
    eval_batch=250,
)
val_evaluator = test_evaluator = dict(type="pld_mmdet.Spearman")
val_cfg = test_cfg = dict()

words = dict(
    corpus=dict(type="pld_mmdet.ConceptPairs", part="corpus", size=3000), width=24
)
model = dict(
    type="pld_mmdet.TransEncoder",
    families=[
        dict(
            bi=dict(type="pld_mmdet.MeanOfWords", **words),
            cross=dict(type="pld_mmdet.AlignedWords", **words),
        )
    ],
    pairs=2000,
)
every = loader(pairs, 500)
steps = 300
train_cfg = staged(
    stage("cross_1", steps, data=both_orders, work=every),
    stage("bi_1", steps, work=every),
    stage("cross_2", steps, data=both_orders, work=every),
    stage("bi_2", steps, work=every),
)
optim_wrapper = optimizer("Adam", lr=2e-3)
find_unused_parameters = True  # on several processes: one of the two learns

alone = lengths(0, 0, 0)
experiment = table(
    "trans_encoder",
    row("start", "Bi-encoder of word vectors, untrained", baseline="untrained"),
    row("own", "Bi-encoder, its own cosines", "model.bi_learns_from=bi", *alone),
    row(
        "trans_encoder",
        "Trans-Encoder, cross-encoder of the second cycle",
        evaluate=dict(test=["model.predict_on=cross"], bi=[]),
    ),
    row("truth", "Bi-encoder, true labels", "model.bi_learns_from=truth", *alone),
    metric="spearman",
    columns={"spearman": ("test", "spearman"), "its bi-encoder": ("bi", "spearman")},
    reported="networks of the last iteration",
)
walk = [
    *lengths(1, 1, 1, 1),
    "model.min_std=0",
    *in_parts("dataset.size=10"),
]
