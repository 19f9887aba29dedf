# DHO whose alpha and beta are searched on the validation images before testing (the
# paper's few-shot setting); for tools/test.py on a checkpoint of toy.py.
_base_ = "./toy.py"
custom_hooks = [*_base_.custom_hooks, dict(type="pld_mmdet.MixSearchHook")]
