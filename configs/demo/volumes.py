"""AANet-3D, small, on synthetic studies at 2 mm: starts from a pretrained artery head.

pe-unified phantom raw/cadpe --layout cadpe --seed 0 --studies 32 --size 192 --slices 96 \
  --structures
pe-unified convert cadpe raw/cadpe data/volumes/cadpe
pe-unified steps demo/volumes --data-root data/volumes/cadpe \
  --cfg-options structures=raw/cadpe/structures

Time: 13 minutes on one core (AMD EPYC), with other jobs running.
Result: on 5 synthetic test patients with 13 emboli, Dice 0.16; at 4 false positives per scan 2 are
found, 6 within 5 mm. The loss is still falling at the end.
"""

settings = dict(
    # On the CPU, weight gradients of very small feature maps are sometimes wrong in bfloat16.
    precision="fp32",
    step_mm=2.0,
    patch_size=48,
    batch_size=2,
    num_workers=0,
    warmup_iters=10,
    model=dict(network=dict(width=0.25), windows=dict(size=64, stride=48, ramp=16)),
    default_hooks=dict(checkpoint=dict(interval=50)),
)
steps = [
    dict(name="artery", config="../volumes/aanet3d_artery.py", settings=dict(max_iters=150)),
    dict(
        name="aanet3d",
        config="../volumes/aanet3d.py",
        reuse={"network.trunk": "artery", "network.artery_head": "artery"},
        settings=dict(max_iters=400),
    ),
]
