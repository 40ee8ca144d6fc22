"""Reads sessions from stdin, a JSON array of item ids a line, and prints the recommended items, a JSON array a line."""

import json
import sys

from mtaw_fast_client import Client
from mtaw_fast_client.api.ranking import recommend
from mtaw_fast_client.models import RecommendAnswer, RecommendRequest

with Client(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000") as service:
    for line in sys.stdin:
        answer = recommend.sync(client=service, body=RecommendRequest(session=json.loads(line), k=10))
        if not isinstance(answer, RecommendAnswer):
            sys.exit("no answer" if answer is None else answer.error.message)
        print(json.dumps(answer.items))
