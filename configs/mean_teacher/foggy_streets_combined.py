# Two ideas at once, chosen before anything was measured: the teacher looks at x1 and x2
# (small objects are where the room is), and middling boxes are neither objects nor
# background. The table that says what each of them is worth, and what the sum is:
#   python tools/reproduce.py configs/mean_teacher/foggy_streets_combined.py \
#       --seeds 0 1 2 --result docs/results/foggy_streets_room.json
_base_ = "../_base_/experiments/foggy_streets_room.py"

model = dict(teacher_scales=(1.0, 2.0), ignore_above=0.3)
