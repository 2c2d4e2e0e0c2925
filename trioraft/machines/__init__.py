"""State machines: sessions around one, replicated objects, and structures made of them.

Import from `trioraft` and `trioraft.structures`; the modules here may be rearranged at will.
"""
