# Deep mutual learning (Zhang et al. 2018): both networks learn the other's forward KL.
_base_ = "./toy.py"
model = dict(student_kl="forward")
