"""Writes findings to files: a report as JSON, page, masks and DICOM, for one study or many."""
