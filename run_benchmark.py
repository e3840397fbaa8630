#!/usr/bin/env python
"""ContiSeg's door: `python run_benchmark.py --help`."""

if __name__ == "__main__":
    # Here, not above: worker processes import this file again and need none of it.
    import sys

    from benchmarks.cli import main

    sys.exit(main(sys.argv[1:]))
