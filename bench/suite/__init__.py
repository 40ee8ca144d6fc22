"""All benches as one suite: run them, keep what they found by machine, compare two runs, draw what there is."""
