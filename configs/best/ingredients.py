# What a teacher that misses small objects costs: ceilings and free looks on val.
# docs/lab/room.md; the parts that were to help were never measured and are gone.
#   python tools/reproduce.py configs/best/ingredients.py --seeds 10 11
_base_ = "../_base_/experiments/foggy_streets_ingredients.py"
