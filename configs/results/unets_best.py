"""The five networks of `unets` with the best validation Dice, over seeds; together; with boxes.

`ensemble` is the mean of the three best. `with_boxes` adds the boxes of a Faster R-CNN and the
scores of a slice classifier, with weights fitted to validation lesions. `cascade` is a lung
detector, a classifier, the best network and the boxes; `with_3d` the best network with the marks of
AANet-3D.

pe-unified steps results/unets_best --data-root data/unets/cadpe --seeds 0 1 2 --jobs 2

Time: about three hours with --jobs 2 on two CPU cores with AMX, next to other work.
Result: no network is better than another on synthetic studies, and an ensemble little; the table is
in docs/unets.md.
"""

_base_ = "./unets.py"

nets = ("attention_unet", "unet", "tiny_unet3", "xnet", "u2netp")
steps = [
    *[dict(name=net, config=f"../unets/{net}.py", lesions=True) for net in nets],
    dict(
        name="ensemble",
        config="../unets/unet.py",
        ensemble=dict(members=["attention_unet", "unet", "tiny_unet3"]),
    ),
    dict(name="cls", config="../pe_cls_r50.py"),
    dict(
        name="det",
        config="../ablations/det_r50_oversampled.py",
        reuse=dict(backbone="cls"),
        settings=dict(max_iters=400),
    ),
    dict(
        name="with_boxes",
        config="../pe_unified_r50.py",
        ensemble=dict(members=["cls", "attention_unet", "unet", "tiny_unet3", "det"], fuse=True),
    ),
]
steps += [
    dict(name="lungs", config="../cascade/lung_detector.py", settings=dict(max_iters=300)),
    dict(
        name="cascade",
        config="../pe_unified_r50.py",
        ensemble=dict(members=["cls", "attention_unet", "det"], lungs="lungs", fuse=True),
    ),
    dict(
        name="artery",
        config="../volumes/aanet3d_artery.py",
        settings=dict(**_base_.volume, max_iters=150),
    ),
    dict(
        name="aanet3d",
        config="../volumes/aanet3d.py",
        reuse={"network.trunk": "artery", "network.artery_head": "artery"},
        settings=dict(**_base_.volume, max_iters=400),
    ),
    dict(
        name="with_3d",
        config="../unets/attention_unet.py",
        ensemble=dict(members=["attention_unet"], volumes="aanet3d", fuse=True),
    ),
]
comparisons = [
    *[("seg/dice", "unet", net) for net in nets if net != "unet"],
    ("seg/dice", "attention_unet", "ensemble"),
    ("findings/mean_sensitivity", "attention_unet", "ensemble"),
    ("findings/mean_sensitivity", "ensemble", "with_boxes"),
    ("findings/mean_sensitivity", "attention_unet", "cascade"),
    ("findings/mean_sensitivity", "attention_unet", "with_3d"),
]
arms = ("first", "second")
