"""Entry point of `python -m bench.rules`."""

from bench.rules.command import main

raise SystemExit(main())
