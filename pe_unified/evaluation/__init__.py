"""Slice, segmentation, detection, lesion and exam metrics, with intervals over patients."""
