"""Writes findings to files: a report as JSON, page, masks and DICOM, for one study or many."""

from pe_unified.reports.analysis import AnalysisOptions, analyse_study

__all__ = ["AnalysisOptions", "analyse_study"]
