# Plain Mean Teacher on the embedded data, LPLD's baseline.
_base_ = "../_base_/recipes/sfod_streets.py"
