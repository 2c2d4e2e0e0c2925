"""The key-value service."""
