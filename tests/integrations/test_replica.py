"""The contract of the HTTP service, on replicas: the very tests that `mtaw-fast serve` passes."""

from __future__ import annotations

from tests.service.http import test_responses as test_errors
from tests.service.routes import test_recommend as test_routes
from tests.service.routes.test_recommend import int_rec, rec

__all__ = ["int_rec", "rec"]

# Of `mtaw-fast serve` alone: it starts a service of its own, or asks for the reload that replicas do not have.
_EMBEDDED = {
    "test_a_bundle_with_a_session_memory",
    "test_reload_needs_the_token",
    "test_the_scheme_of_the_token_has_no_case",
}

for _module in (test_routes, test_errors):
    globals().update(
        {name: test for name, test in vars(_module).items() if name.startswith("test_") and name not in _EMBEDDED}
    )
