#!/usr/bin/env python
"""Check a converted set; --help says how."""

from pe_unified.cli import run

if __name__ == "__main__":
    run("pe_unified.converters.verify")
