"""The HTTP service: `mtaw-fast serve`. docs/service.md says what it answers.

supervisor     starts workers, and others in the place of those that die
worker         one process: loads the bundle, then serves until told to stop
app            the routes; middleware: what holds for every request; connection: clients that are slow
request_queue  where requests wait; ranking: the work itself; sessions: those that the service keeps
reload         how a new bundle comes in; bundles: which of several answers whom
counters       what is counted, over all workers; metrics: which numbers there are; version_counters: those by bundle version
feedback       what came of a ranking; cors, origin: which pages may ask; pages: those that the service itself shows
"""
