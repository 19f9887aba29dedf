# Base boxes only, as many steps more: no candidate is read.
_base_ = "./streets.py"

train_dataloader = dict(dataset=dict(dataset=dict(base_only=True)))
model = dict(strong_view=False, stratified=False, mining=False, reweighting=False)
