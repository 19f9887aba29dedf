# FST-W with N = 3: three virtual steps side by side, each on its own batch of 4 + 4.
_base_ = "./toy.py"

model = dict(depth=0, width=3)
train_dataloader = dict(batch_size=32, sampler=dict(batch_size=32))
