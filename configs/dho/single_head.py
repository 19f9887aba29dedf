# Both losses on one head: labels and teacher contradict each other in it.
_base_ = "./toy.py"
model = dict(heads="single", predict_on="ce")
