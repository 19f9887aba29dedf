# PS-TTL as the paper describes it: the K shots supervise the student at every step.
_base_ = "./voc_split1_1shot.py"

model = dict(sup_weight=1.0)
train_cfg = dict(merge_support=True)
