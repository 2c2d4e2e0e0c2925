"""What the site is made with, beside Sphinx and its extensions: one concern a file.

public_reference     the reference: every public name, once, on the page that names it
docstrings           our docstrings' Markdown, as reStructuredText
references           where a name leads: to its public name, or to the documentation of Python and Trio
repository           links to files that are no pages; pages whose text stands elsewhere in the repository
moving_pictures      runs that can be played, in the place of their pictures
transcripts          how transcripts, logs and reports are coloured
"""
