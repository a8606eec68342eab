"""AANet-3D from a pretrained artery head, and the effect of gate and arteries.

pe-unified steps volumes/steps --data-root data/cadpe --cfg-options structures=STRUCTURES

Time: not measured.
Result: unknown.
"""

steps = [
    dict(name="artery", config="aanet3d_artery.py"),
    dict(
        name="aanet3d",
        config="aanet3d.py",
        reuse={"network.trunk": "artery", "network.artery_head": "artery"},
    ),
    dict(
        name="open_gate",
        config="aanet3d.py",
        settings=dict(model=dict(network=dict(gate_start="open"))),
    ),
    dict(name="no_gate", config="aanet3d_no_gate.py"),
    dict(name="no_artery", config="aanet3d_no_artery.py"),
]
comparisons = [
    ("lesion/mean_sensitivity", "no_artery", "aanet3d"),
    ("lesion/mean_sensitivity", "no_gate", "aanet3d"),
    ("lesion/mean_sensitivity", "open_gate", "aanet3d"),
    ("lesion/dice", "no_artery", "aanet3d"),
]
arms = ("reference", "AANet-3D")
