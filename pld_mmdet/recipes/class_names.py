"""Classes of the data sets, in the order of their labels.

A config takes the module, not its values: what it imports by name becomes one of its
entries::

    from pld_mmdet.recipes import class_names

    classes = class_names.CITYSCAPES
"""


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


CITYSCAPES = _names("person, rider, car, truck, bus, train, motorcycle, bicycle")
VOC = _names(
    "aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, "
    "dog, horse, motorbike, person, pottedplant, sheep, sofa, train, tvmonitor"
)
# What the splits of few-shot detection hold back: their base classes are the others.
VOC_NOVEL = {
    1: _names("bird, bus, cow, motorbike, sofa"),
    2: _names("aeroplane, bottle, cow, horse, sofa"),
    3: _names("boat, cat, motorbike, sheep, sofa"),
}
VOC_BASE = {
    split: tuple(name for name in VOC if name not in novel)
    for split, novel in VOC_NOVEL.items()
}
COCO = _names(
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, "
    "traffic light, fire hydrant, stop sign, parking meter, bench, bird, cat, dog, "
    "horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag, "
    "tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, "
    "baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup, "
    "fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, "
    "hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, "
    "toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, "
    "toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear, "
    "hair drier, toothbrush"
)
# Of few-shot detection: the classes that VOC has are novel.
COCO_NOVEL = _names(
    "person, bicycle, car, motorcycle, airplane, bus, train, boat, bird, cat, dog, "
    "horse, sheep, cow, bottle, chair, couch, tv, potted plant, dining table"
)
COCO_BASE = tuple(name for name in COCO if name not in COCO_NOVEL)
# Of open-vocabulary detection (OV-COCO): 65 classes, of which 17 are novel.
OV_COCO_NOVEL = _names(
    "airplane, bus, cat, dog, cow, elephant, umbrella, tie, snowboard, skateboard, "
    "cup, knife, cake, couch, keyboard, sink, scissors"
)
_NOT_OV = _names(
    "traffic light, fire hydrant, stop sign, parking meter, sports ball, "
    "baseball bat, baseball glove, tennis racket, wine glass, hot dog, potted plant, "
    "dining table, cell phone, teddy bear, hair drier"
)
OV_COCO = tuple(name for name in COCO if name not in _NOT_OV)
CUTOUTS = _names(
    "bird, mammal, fish, insect, fruit, vegetable, flower, vehicle, instrument"
)
