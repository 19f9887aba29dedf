# Documents of 8 to 16 words about one of eight topics; 256 words, four for each sense.
# 4000 documents without labels, 600 more of them as the task's own (`transfer`), 24
# with labels; 300 val, 1000 test. A BERT of 2 x 64 is the teacher; two stages make it:
# masked words, then the labels. Distiller, PD, P4PLM and AutoDistil share it.
_base_ = ["../toy_runtime.py", "../metrics/accuracy_val.py"]
from pld_mmdet.recipes import loader, loaders, optimizer, poly, stage
from pld_mmdet.recipes.language import bert, classifier, masked

documents = dict(
    type="pld_mmdet.TopicGrammar", topics=8, senses=64, synonyms=4, words=16, focus=0.1
)
general = loader(dict(**documents, part="general", size=4000), 32, train=True)
transfer = loader(dict(**documents, part="general", size=600), 16, train=True)
train_dataloader, val_dataloader, test_dataloader = loaders(
    documents,
    16,
    train=dict(part="task", size=24),
    val=dict(part="val", size=300),
    test=dict(part="test", size=1000),
    eval_batch=100,
)

_plain = dict(
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    initializer_range=0.1,  # BERT's 0.02 is for 768 channels
)
large, small = bert(260, 20, 64, 2, 128, **_plain), bert(260, 20, 32, 1, 64, **_plain)
pretrained, student_lm = masked(config=large), masked(config=small)
finetuned, student = classifier(8, config=large), classifier(8, config=small)

falling = poly(1.0)
mlm = stage(
    "mlm",
    400,
    data=general,
    schedule=falling,
    optim=optimizer("AdamW", 3e-3, weight_decay=0.01, clip=1.0),
)
teach = stage("teacher", 100, schedule=falling)
teacher_mlm = dict(mlm, name="teacher_mlm")
optim_wrapper = optimizer("AdamW", 2e-3, weight_decay=0.01, clip=1.0)
find_unused_parameters = True  # on several processes: one part learns at a time
