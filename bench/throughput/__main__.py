"""Entry point of `python -m bench.throughput`."""

from bench.throughput.command import main

raise SystemExit(main())
