# Mutual learning with as much weight on the divergence as BD-KD's student has (1 + nu):
# what is left between the two is the kind of divergence, not its weight.
_base_ = "./mutual.py"
model = dict(alpha=3.0)
