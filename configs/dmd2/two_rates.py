# DMD2 without its GAN: five critic steps for one generator step.
_base_ = ["toy.py"]

model = dict(gan_weight=0.0)
