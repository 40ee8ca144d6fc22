"""Entry point of `python -m bench.training`."""

from bench.training.command import main

raise SystemExit(main())
