# I2D2 in a world of 30 concepts and 12 properties: a GPT-2 of a noisy corpus, a critic
# of 400 labels, two rounds of self-imitation.
_base_ = "../_base_/toy_runtime.py"
from pld_mmdet.language.data.world import words_of
from pld_mmdet.recipes import loader, loaders, optimizer, stage, staged
from pld_mmdet.recipes.language import bert, classifier, gpt2
from pld_mmdet.recipes.tables import in_parts, lengths, row, table

world = dict(synonyms=2, kinds=4)
prompts = dict(type="pld_mmdet.WorldPrompts", **world)
_, val_dataloader, test_dataloader = loaders(
    prompts,
    64,
    train=dict(part="train", size=60),
    val=dict(part="val", size=600),
    test=dict(part="test", size=600),
    eval_batch=600,
)
corpus = dict(type="pld_mmdet.WorldStatements", part="train", **world)
train_dataloader = loader(dict(corpus, size=6000), 64, train=True)
val_evaluator = test_evaluator = dict(type="pld_mmdet.StatementMetric", world=world)
val_cfg = test_cfg = dict()

model = dict(
    type="pld_mmdet.I2D2",
    generator=gpt2(160, 16, 64, initializer_range=0.1),
    critic=classifier(2, config=bert(160, 16, 32, 2, 64, initializer_range=0.1)),
    words=dict(type="pld_mmdet.FactWorld", **world),
    threshold=0.7,
    forbidden=words_of("nx", **world),
    at_most=[(words_of("qrlo", **world), 1)],
    decoder=dict(beam=12),
    new_tokens=6,
)
labels = loader(
    dict(corpus, size=400, true=0.5, negated=0.0, filler=0.0, labelled=True),
    32,
    train=True,
)
statements = loader(
    dict(type="pld_mmdet.TextLines", ann_file="{folder}/statements.jsonl"),
    64,
    train=True,
)
asked = loader(dict(prompts, part="train", size=60), 60)
turn = dict(data=statements, work=asked)
train_cfg = staged(
    stage("corpus", 300),
    stage("critic", 250, data=labels),
    stage("round_1", 60, **turn),
    stage("round_2", 60, **turn),
)
optim_wrapper = optimizer("Adam", lr=1e-3)
find_unused_parameters = True  # on several processes: one of the two learns

taught, given = dict(init="raw"), lengths(0, 0)
still = lengths(None, None, 0, 0)
still += [f"train_cfg.stages.{i}.work_dataloader=None" for i in (2, 3)]
judged = [*lengths(0, 1), *still]
read = "model.predict_on="
experiment = table(
    "i2d2",
    row("raw", "Corpus only", *still),
    row(
        "filtered",
        "Corpus only, critic",
        *judged,
        **taught,
        evaluate=dict(test=[read + "sample_critic"]),
    ),
    row(
        "constrained",
        "Corpus only, constraints and critic",
        *judged,
        **taught,
        evaluate=dict(test=[read + "constrained_critic"]),
    ),
    row("no_critic", "Rounds without a critic", *given, "model.threshold=0", **taught),
    row("i2d2", "I2D2, two rounds", *given, **taught),
    row(
        "labels",
        "True statements of the critic's labels, said again",
        baseline=dict(type="repeated", train="train_cfg.stages.1.dataloader.dataset"),
    ),
    metric="truth",
    columns={"truth": ("test", "truth"), "recall": ("test", "recall")},
    reported="generator of the last iteration, one sample a prompt",
)
walk = [
    *lengths(1, 1, 1, 1),
    "model.threshold=0",
    "model.decoder.beam=2",
    "train_dataloader.dataset.size=64",
    *[f"train_cfg.stages.{i}.work_dataloader.dataset.size=3" for i in (2, 3)],
    *in_parts("dataset.size=4"),
]
