"""Names of the files of a report."""

#: The report as data. It is written last: if it exists, the other files are complete.
REPORT = "report.json"
#: Always written.
PAGE, SLICES = "report.html", "slices.csv"
#: Written by models that outline lesions.
MASK = "mask.nii.gz"
#: Written only on request.
LUNGS = "lungs.nii.gz"
#: DICOM SEG and SR, written where the headers of the study allow it.
SEGMENTATION, FINDINGS = "mask.seg.dcm", "findings.sr.dcm"
#: Folder of the masks that readers drew, in the folder of the report.
REDRAWN = "redrawn"
