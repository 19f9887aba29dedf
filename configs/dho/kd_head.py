# DHO, answered by the kd_head alone; for tools/test.py on a checkpoint of toy.py.
_base_ = "./toy.py"
model = dict(predict_on="kd")
