"""The client port of a node: what `trioraft.Client` talks to.

Import from `trioraft`; the modules here may be rearranged at will.
"""
