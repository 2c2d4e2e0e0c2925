"""A cluster that lost its quorum for good: what is left of it, and how it goes on from there."""
