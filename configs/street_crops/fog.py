# The test crops in fog at 0.02, Foggy Cityscapes' densest.
_base_ = "./cnn.py"
test_dataloader = dict(dataset=dict(fog=0.02))
