#!/usr/bin/env python
"""Convert studies of your own into one COCO data set; --help says how."""

from pe_unified.cli import run

if __name__ == "__main__":
    run("pe_unified.converters.raw.folder")
