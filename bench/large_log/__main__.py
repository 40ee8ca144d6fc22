"""`python -m bench.large_log`."""

import sys

from bench.large_log.command import main

if __name__ == "__main__":
    sys.exit(main())
