"""Entry point of `python -m bench.quality`."""

from bench.quality.command import main

raise SystemExit(main())
