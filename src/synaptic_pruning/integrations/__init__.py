"""One thin file a framework; each imports its framework, so import the one you need."""
