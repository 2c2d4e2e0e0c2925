"""What the site is made with, beside Sphinx and its extensions: one concern a file.

public_names         what is public, and where each name is defined
public_reference     the reference: every public name, once, on the page that names it
docstrings           our docstrings' Markdown, as reStructuredText
annotations          types in signatures, by the names that users import
references           where a name leads: its public name, or what others document
repository           links to files that are no pages; pages whose text stands elsewhere
moving_pictures      runs that can be played, in the place of their pictures
commands             all commands, for their reference
transcripts          how transcripts, logs and reports are coloured
"""
