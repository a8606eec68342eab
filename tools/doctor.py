#!/usr/bin/env python
"""Print what is installed, which mmcv operators are in use, and what is wrong with the cure."""

import sys

import pe_unified

if __name__ == "__main__":
    print(pe_unified.__version__)
    sys.exit(0)
