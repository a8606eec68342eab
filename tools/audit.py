#!/usr/bin/env python
"""The command `pe-unified audit` as a script."""

from pe_unified.cli import run

if __name__ == "__main__":
    run("pe_unified.cli.audit")
