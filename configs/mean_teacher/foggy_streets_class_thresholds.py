# Mean Teacher with a threshold for each class: 0.7 only says how many boxes pass.
_base_ = "./foggy_streets.py"

model = dict(class_thresholds=dict(floor=0.3, lowest=0.4, highest=0.9, window=100))
