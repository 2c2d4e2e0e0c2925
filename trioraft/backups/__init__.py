"""Backup files: the state of a cluster as of one index, in a file that proves itself.

Nothing here knows of nodes, storages or sockets: whoever makes one and whoever reads one does.
"""
