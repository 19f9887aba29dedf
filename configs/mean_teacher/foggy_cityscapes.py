# Plain Mean Teacher, LPLD's baseline: the neutral recipe as it is.
_base_ = "../_base_/recipes/sfod.py"
