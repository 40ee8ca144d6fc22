"""`python -m bench.clients`."""

import os
import sys

from bench.clients.command import main

if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
