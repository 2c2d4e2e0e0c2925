"""Many groups in one process."""
