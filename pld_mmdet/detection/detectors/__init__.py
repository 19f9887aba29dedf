"""What detectors are made of: two stages, box heads, backbones, foreign weights."""
