#!/usr/bin/env python
"""Write a converted set in the raw layout of nnU-Net v2; --help says how."""

from pe_unified.cli import run

if __name__ == "__main__":
    run("pe_unified.converters.to_nnunet")
