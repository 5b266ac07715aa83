"""Pictures of the reports, by subject."""
