"""trioraft's pytest plugins, beside the package: pytest imports them at every start, in every
environment that has trioraft, and importing anything of `trioraft` would load all of it.
"""
