"""Clients of a cluster: what they say to a server's client port, and how they find the leader.

Import from `trioraft`; the modules here may be rearranged at will.
"""
