# Plain distribution matching (DMD without its regression data): one critic step for one
# generator step, no GAN.
_base_ = ["toy.py"]

model = dict(gan_weight=0.0, generator_interval=1)
