#!/usr/bin/env python
"""Generate synthetic CT pulmonary angiograms in the public sets' layouts; --help says how."""

from pe_unified.cli import run

if __name__ == "__main__":
    run("pe_unified.phantom.command")
