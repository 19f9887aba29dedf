# Topics without masked units.
_base_ = "toy.py"
model = dict(unit_weight=0.0, topic_weight=1.0)
