# Batch-norm statistics of the test batch and nothing else: TENT that never steps.
_base_ = ["./tent.py"]

optim_wrapper = dict(optimizer=dict(lr=0.0))
