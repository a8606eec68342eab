"""Painted CT pulmonary angiograms with exact truth."""
