# Impossible Distillation in a world of facts: a GPT-2 that often, not always, says a
# report again in other words; an oracle in place of the NLI model; a T5 as student.
_base_ = "../_base_/toy_runtime.py"
from pld_mmdet.recipes import loader, loaders, optimizer, stage, staged
from pld_mmdet.recipes.language import gpt2
from pld_mmdet.recipes.tables import in_parts, lengths, row, table

world = dict(synonyms=2)
reports = dict(type="pld_mmdet.WorldDocuments", **world)
train_dataloader, val_dataloader, test_dataloader = loaders(
    reports,
    64,
    train=dict(part="train", size=4000, documents=True),
    val=dict(part="val", size=300),
    test=dict(part="test", size=600),
)
val_evaluator = test_evaluator = dict(type="pld_mmdet.RewordingMetric", world=world)
val_cfg = test_cfg = dict()

words = dict(type="pld_mmdet.FactWorld", **world)
vocabulary = 160  # 4, and 2 words of each of 78 senses
model = dict(
    type="pld_mmdet.ImpossibleDistillation",
    lm=gpt2(vocabulary, 40, 64, initializer_range=0.125),
    student=dict(
        type="pld_mmdet.Seq2SeqTransformer",
        config=dict(model_type="t5", vocab_size=vocabulary, d_model=64, d_kv=16)
        | dict(d_ff=128, num_layers=2, num_heads=4, dropout_rate=0.0)
        | dict(pad_token_id=0, eos_token_id=2, decoder_start_token_id=0),
    ),
    critic=dict(type="pld_mmdet.WorldEntailment", **world),
    lm_words=words,
    student_words=words,
    contexts=dict(new_tokens=20, count=1),
    bootstrap=dict(new_tokens=10, count=4, top_p=0.9, temperature=0.7),
    refine=dict(new_tokens=10, count=4, top_p=0.9, temperature=0.7),
    template="{source}",
    lengths=(24, 24, 12),
    banned=(),
)
# a prefix is the first report of a document
prefixes = loader(dict(reports, part="train", size=1500), 250)
pairs = loader(
    dict(
        type="pld_mmdet.TextLines",
        ann_file="{folder}/pairs.jsonl",
        keys=("source", "target", "context"),
    ),
    64,
    train=True,
)
student = dict(work_dataloader=prefixes, dataloader=pairs)
train_cfg = staged(
    stage("lm", 400),
    stage("context", 0, work=prefixes),
    stage("student_0", 150, **student),
    stage("student_1", 150, **student),
)
optim_wrapper = optimizer("Adam", lr=3e-3)
find_unused_parameters = True  # on several processes: one of the two learns

given = lengths(0)
alone = [*lengths(None, None, None, 0), "train_cfg.stages.3.work_dataloader=None"]
one = [*lengths(0, None, 300), *alone]
experiment = table(
    "impossible_distillation",
    row(
        "copy",
        "Copying the input",
        *lengths(None, None, 1),
        *alone,
        evaluate=dict(test=["model.predict_on=input"]),
        trivial=True,
    ),
    row("unfiltered", "All pairs", *one, "model.filters=None", init="copy"),
    row("stage_0", "Filtered pairs of the language model", *one, init="copy"),
    row("impossible_distillation", "Then of the student", *given, init="copy"),
    metric="reworded",
    columns={
        "preserved": ("test", "preservation"),
        "new words": ("test", "novelty"),
        "both": ("test", "reworded"),
    },
)
walk = [
    *lengths(1, None, 1, 1),
    "model.filters=None",
    "train_cfg.stages.1.work_dataloader.dataset.size=4",
    "train_dataloader.dataset.size=64",
    *in_parts("dataset.size=4"),
]
