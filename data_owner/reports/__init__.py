"""Pages that people at the owner read."""
