"""Entry point of `python -m bench.scaling`."""

from bench.scaling.command import main

raise SystemExit(main())
