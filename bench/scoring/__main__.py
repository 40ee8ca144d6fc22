"""Entry point of `python -m bench.scoring`."""

from bench.scoring.command import main

raise SystemExit(main())
