"""Synthetic CT pulmonary angiograms with exact ground truth."""
