"""Real work to train on."""
