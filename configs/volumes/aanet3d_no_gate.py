"""AANet-3D without its gate: arteries are learned with emboli but do not influence them.

pe-unified train volumes/aanet3d_no_gate --data-root data/cadpe --cfg-options structures=STRUCTURES

Time: not measured.
Result: unknown.
"""

_base_ = "aanet3d.py"

model = dict(network=dict(gate=False))
