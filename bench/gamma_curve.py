"""`python -m bench.gamma_curve`: the command of `bench.quality.gamma_curve`."""

import sys

from bench.quality.gamma_curve import main

if __name__ == "__main__":
    sys.exit(main())
