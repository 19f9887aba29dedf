# HuBERT: masked units, no topics.
_base_ = "toy.py"
model = dict(topic_weight=0.0)
