#!/usr/bin/env python
"""Merge converted sets into one; --help says how."""

from pe_unified.cli import run

if __name__ == "__main__":
    run("pe_unified.converters.merge")
