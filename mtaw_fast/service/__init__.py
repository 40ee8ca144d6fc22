"""The HTTP service behind `mtaw-fast serve`; docs/service.md is its reference.

A layer imports only from the layers above it in this list:

settings, errors, json_codec              options of the service; errors of requests; JSON
resources, redis_client                   shared memory, open files and threads; a Redis client
observability                             counters, metrics and the log
sessions, feedback_store                  stores of the sessions that the service keeps, and of feedback
snapshot, bundles, request_queue          loaded bundles and their reload; the queue of waiting requests
recording, watching                       the record of rankings and of reports on them; what a shop watches
state                                     what the routes of one worker share
http                                      connections, request bodies, access rules, error responses, shutdown
routes                                    the handlers, their messages, the OpenAPI document and the web pages
app, worker, supervisor                   the ASGI app; a process that serves; the parent of these processes
"""
