# INS on CIFAR bags (miccaiif/INS, commit cd97ba2, train_withbag_cifar.py): 472 bags of
# 100 images, half of them with ten trucks; ResNet-18, SGD 0.01, batches of 64; an epoch
# of bag labels, 15 of warm-up on the positive bags, 65 with prototypes. Their network
# starts from ImageNet's weights; ours is built for 32 pixels and starts at random.
#   python tools/train.py configs/ins/paper.py
_base_ = "../_base_/toy_runtime.py"

from pld_mmdet.recipes import loader, optimizer, stage, staged
from pld_mmdet.recipes.images import cifar

how_to_get = dict(
    data="unpack cifar-10-binary.tar.gz of cs.toronto.edu/~kriz/cifar.html as "
    "data/cifar-10-batches-bin"
)


def bags(part, count, **more):
    return dict(
        type="pld_mmdet.InstanceBags",
        # views want [0, 1]
        dataset=cifar(10, part, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        positive=[9],
        bags=count,
        size=100,
        share=0.1,
        **more,
    )


train = bags("train", 472)
model = dict(
    type="pld_mmdet.INS",
    network=dict(type="pld_mmdet.CIFARResNet", num_classes=2, pre_activation=False),
    num_samples=47200,
    width=128,
    queue=8192,
    weight=0.5,
    proto_keep=0.9,
    key_keep=0.999,
    # phi falls from 0.95 to 0.8 over 80 epochs, of which the first 15 move no label
    phi=(0.95 - 0.15 * 14 / 80, 0.95 - 0.15 * 78 / 80),
    mean=0.473,  # of all channels together
    std=0.251,
)
train_dataloader = loader(train, 64, train=True)
test_dataloader = loader(bags("test", 94), 256)
test_evaluator = dict(type="pld_mmdet.MILMetric")
test_cfg = dict()
epoch, positive = 47200 // 64, 23600 // 64
warm = loader(dict(train, positive_only=True), 64, train=True)
train_cfg = staged(
    stage("bag_labels", epoch),
    stage("warmup", 15 * positive, data=warm),
    stage("prototypes", 65 * epoch),
    stage("scores", 0, work=loader(train, 64)),
)
optim_wrapper = optimizer("SGD", 0.01, momentum=0.9, weight_decay=1e-3)
find_unused_parameters = True
