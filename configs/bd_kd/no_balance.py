# Forward and reverse divergence with equal weights, whatever the entropy gap says.
_base_ = "./toy.py"
model = dict(nu=1.0)
