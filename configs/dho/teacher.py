# DHO, answered by the teacher alone; for tools/test.py on a checkpoint of toy.py.
_base_ = "./toy.py"
model = dict(predict_on="teacher")
