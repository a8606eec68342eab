"""All segmentation networks with one budget: the same slices, the same number, from scratch.

pe-unified phantom data/unets/raw/cadpe --layout cadpe --seed 0 --studies 40 --size 256 \
  --slices 80 --structures --anatomy DIR
pe-unified convert cadpe data/unets/raw/cadpe data/unets/cadpe --split 0.6 0.15 0.25
pe-unified steps results/unets --data-root data/unets/cadpe

Time: not measured.
Result: on synthetic emboli in real anatomies, Dice 0.73 for attention_unet and 0.72 for unet; all
rows in docs/unets.md.
"""

settings = dict(
    pretrained=None,
    # Synthetic slices have 256 columns, of which the lungs cover about 200.
    input_size=(144, 192),
    windows=["embolus", "pe", "lung"],
    batch_size=8,
    num_workers=0,
    max_iters=200,
    warmup_iters=20,
    lr=2e-3,
    default_hooks=dict(checkpoint=dict(interval=50, max_keep=1)),
)
nets = (
    *("unet", "attention_unet", "r2unet", "attention_r2unet"),
    *("tiny_unet3", "tiny_unet2", "tiny_unet1", "tiny_attention_r2unet"),
    *("unet_plus_plus", "xnet", "nfn_plus", "u2net", "u2netp", "unet_resnet34"),
    *("smp_unet_plus_plus", "monai_attention_unet", "attention_unet_r50", "unet_plus_plus_r50"),
)
steps = [
    *[dict(name=net, config=f"../unets/{net}.py", lesions=True) for net in nets],
    dict(name="seg_r50", config="../pe_seg_r50.py", lesions=True),
    dict(name="seg_swin", config="../pe_seg_swin.py", lesions=True),
]

# Complements of a segmentation network: a classifier and boxes before it, a 3D model beside it.
volume = dict(
    structures="data/unets/raw/cadpe/structures",
    # On the CPU, weight gradients of very small feature maps are sometimes wrong in bfloat16.
    precision="fp32",
    step_mm=2.0,
    patch_size=48,
    batch_size=2,
    num_workers=0,
    warmup_iters=10,
    lr=1e-3,
    model=dict(network=dict(width=0.25), windows=dict(size=64, stride=48, ramp=16)),
)
steps += [
    dict(name="cls", config="../pe_cls_r50.py"),
    dict(
        name="det",
        config="../ablations/det_r50_oversampled.py",
        reuse=dict(backbone="cls"),
        settings=dict(max_iters=400),
    ),
    dict(
        name="artery",
        config="../volumes/aanet3d_artery.py",
        settings=dict(**volume, max_iters=150),
    ),
    dict(
        name="aanet3d",
        config="../volumes/aanet3d.py",
        reuse={"network.trunk": "artery", "network.artery_head": "artery"},
        settings=dict(**volume, max_iters=400),
    ),
    dict(
        name="with_3d",
        config="../pe_seg_r50.py",
        ensemble=dict(members=["seg_r50"], volumes="aanet3d", fuse=True),
    ),
]
