"""The cascade with a 3D network next to the slices: its marks join the lesions and their score.

pe-unified steps cascade/cascade_3d --data-root data/cadpe

For a set with label maps of arteries, aanet3d.py instead of aanet3d_no_artery.py, and
settings=dict(structures=STRUCTURES), give the network arteries to learn from.

Time: not measured.
Result: unknown.
"""

_base_ = "./cascade.py"

steps = [
    *_base_.steps,
    dict(name="aanet3d", config="../volumes/aanet3d_no_artery.py"),
    dict(
        name="cascade_3d",
        config="../pe_unified_r50.py",
        ensemble=dict(
            members=["cls", "seg_r50", "seg_swin", "det"],
            lungs="lungs",
            volumes="aanet3d",
            fuse=True,
        ),
    ),
]
comparisons = [
    *_base_.comparisons,
    ("findings/mean_sensitivity", "cascade", "cascade_3d"),
]
arms = ("fewer networks", "more networks")
