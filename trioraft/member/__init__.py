"""One member of a cluster, pure: the core, and what stands between it and the world.

Standard library, attrs and msgspec only. No Trio, no clock, no disk.
"""
