"""PEVolume with AANet-3D as published."""

model = dict(
    type="PEVolume",
    data_preprocessor=dict(type="PEVolumePreprocessor", hu=(-100.0, 500.0)),
    network=dict(type="AANet3D", width=1.0, gate=True, gate_start="shut"),
    lesion_head=dict(type="VolumeHead", losses=[dict(type="VolumeTverskyLoss", loss_weight=0.75)]),
    artery_head=dict(type="VolumeHead", losses=[dict(type="VolumeTverskyLoss", loss_weight=0.25)]),
    windows=dict(size=128, stride=96, ramp=32, at_once=2),
    marks=dict(cut=0.5, apart_mm=10.0, most=100),
)
