"""Entry point of `python -m bench.retrieval`."""

from bench.retrieval.command import main

raise SystemExit(main())
