# The same learner without a look ahead: depth 0 is plain self-training. The teacher's
# decay is that of FST-D's four moves an iteration, 0.99 ** 4.
_base_ = "./toy.py"

model = dict(depth=0, mu=0.99**4)
