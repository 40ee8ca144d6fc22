"""Entry point of `python -m bench`."""

from bench.suite.command import main

raise SystemExit(main())
