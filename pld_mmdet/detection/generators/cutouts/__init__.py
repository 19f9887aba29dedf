"""Cut-outs: photographed things on real grounds, with boxes and masks of what shows.

Real pictures where no benchmark can be downloaded: stamps with alpha, clip art and
wallpapers out of Debian packages. Nine kinds of things, four domains.
"""
