"""What the sections of the report show, as plain values for its templates."""
