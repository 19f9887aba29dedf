# The student alone, fine-tuned on the 200 labels.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/topic_grammar.py"]
from pld_mmdet.recipes import optimizer, poly
from pld_mmdet.recipes.language import bert, classifier

student = classifier(6, config=bert(196, 16, 32, 2, 64))
model = dict(type="pld_mmdet.TextClassifier", network=student)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=400, val_interval=400)
optim_wrapper = optimizer("AdamW", 2e-3, weight_decay=0.01, clip=1.0)
param_scheduler = poly(1.0, end=400)
