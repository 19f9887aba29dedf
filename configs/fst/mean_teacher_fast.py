# Depth 0 with the teacher's decay of FST-D's four moves an iteration: 0.99 ** 4.
_base_ = "./toy.py"

model = dict(depth=0, mu=0.99**4)
