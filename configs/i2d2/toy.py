# I2D2 in a world of 30 concepts and 12 properties: a GPT-2 of a noisy corpus, a critic
# of 400 labels, two rounds of self-imitation.
_base_ = "../_base_/toy_runtime.py"
from pld_mmdet.language.world import words_of
from pld_mmdet.recipes import loader, loaders, optimizer, stage, staged
from pld_mmdet.recipes.tables import row, table

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

sizes = dict(vocab_size=160, initializer_range=0.1)
model = dict(
    type="pld_mmdet.I2D2",
    generator=dict(
        type="pld_mmdet.CausalTransformer",
        config=dict(model_type="gpt2", n_positions=16, n_embd=64, n_layer=2, n_head=4)
        | sizes
        | dict(embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0),
    ),
    critic=dict(
        type="pld_mmdet.EncoderTransformer",
        task="SequenceClassification",
        num_classes=2,
        config=dict(model_type="bert", max_position_embeddings=16, hidden_size=32)
        | sizes
        | dict(num_hidden_layers=2, num_attention_heads=4, intermediate_size=64),
    ),
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
turn = dict(max_iters=60, work_dataloader=asked, dataloader=statements)
train_cfg = staged(
    stage("corpus", 300),
    stage("critic", 250, data=labels),
    dict(name="round_1", **turn),
    dict(name="round_2", **turn),
)
optim_wrapper = optimizer("Adam", lr=1e-3)
find_unused_parameters = True  # on several processes: one of the two learns

lengths = "train_cfg.stages.{}.max_iters={}"
given = [lengths.format(0, 0), lengths.format(1, 0)]
still = [lengths.format(i, 0) for i in (2, 3)]
still += [f"train_cfg.stages.{i}.work_dataloader=None" for i in (2, 3)]
read = "model.predict_on="
experiment = table(
    "i2d2",
    row("raw", "Corpus only", *still),
    row(
        "filtered",
        "Corpus only, critic",
        lengths.format(0, 0),
        lengths.format(1, 1),
        *still,
        init="raw",
        evaluate=dict(test=[read + "sample_critic"]),
    ),
    row(
        "constrained",
        "Corpus only, constraints and critic",
        lengths.format(0, 0),
        lengths.format(1, 1),
        *still,
        init="raw",
        evaluate=dict(test=[read + "constrained_critic"]),
    ),
    row(
        "no_critic", "Rounds without a critic", *given, "model.threshold=0", init="raw"
    ),
    row("i2d2", "I2D2, two rounds", *given, init="raw"),
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
    *[lengths.format(i, 1) for i in range(4)],
    "model.threshold=0",
    "model.decoder.beam=2",
    "train_dataloader.dataset.size=64",
    "train_cfg.stages.2.work_dataloader.dataset.size=3",
    "train_cfg.stages.3.work_dataloader.dataset.size=3",
    "val_dataloader.dataset.size=4",
    "test_dataloader.dataset.size=4",
]
