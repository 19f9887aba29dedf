"""FoggyStreets: procedural street scenes with depth, in clear weather and in fog.

A stand-in for Cityscapes and Foggy Cityscapes that needs no download: the same layout,
the same file names, the same eight classes, the same optical model of fog. Made for
trying methods on a laptop, not for numbers that compare with published ones.
"""
