"""Dynamic sparse training: rules that prune connections and grow others."""
