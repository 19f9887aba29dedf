# The rival of toy.py: a bag is as positive as its most positive instance; four bags a
# step, so as many images as there.
_base_ = "./toy.py"

train_dataloader = dict(batch_size=4, dataset=dict(whole=True))
train_cfg = dict(stages=[dict(name="max_pooling", max_iters=497)])
