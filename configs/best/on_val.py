# Any recipe's teacher, or a plain detector, on val's 200 foggy images: for choosing.
_base_ = "./foggy_streets.py"

test_dataloader = _base_.val_dataloader
test_evaluator = _base_.val_evaluator
