"""Entry point of `python -m bench.prepare`."""

from bench.prepare.command import main

raise SystemExit(main())
