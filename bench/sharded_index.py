"""`python -m bench.sharded_index`: the command of `bench.retrieval.sharded`."""

import sys

from bench.retrieval.sharded import main

if __name__ == "__main__":
    sys.exit(main())
