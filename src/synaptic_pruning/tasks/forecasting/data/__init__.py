"""Series: readers, registry, downloads."""
