# Distillation through one fixed divergence.
_base_ = "plain.py"
model = dict(type="pld_mmdet.CausalDistillation", divergence="reverse_kl")
