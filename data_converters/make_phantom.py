#!/usr/bin/env python
"""Paint CT pulmonary angiograms in the layouts of the public sets; --help says how."""

from pe_unified.cli import run

if __name__ == "__main__":
    run("pe_unified.phantom.command")
