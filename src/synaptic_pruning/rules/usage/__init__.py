"""Use it or lose it: rules that prune connections by their use."""
