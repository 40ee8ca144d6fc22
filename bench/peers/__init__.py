"""Other systems, trained on the same sessions in environments of their own and ranked by our evaluation."""
