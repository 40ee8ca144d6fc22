"""All benches as one suite: run them, keep their results by machine class, compare two runs, draw the results."""
