"""The file format of pruned networks."""
