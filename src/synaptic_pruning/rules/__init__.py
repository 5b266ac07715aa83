"""Which weights are pruned and grown, and when."""
