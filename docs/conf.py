"""How the site is made: `sphinx-build -nW docs build/site`.

What is particular to it stands in docs/extensions/, a concern a file.
"""

import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

project = "trioraft"
author = "the trioraft authors"
project_copyright = "the trioraft authors"
version = release = metadata.version("trioraft")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib_trio",
    "sphinx_click",
    "sphinx_copybutton",
    "docs.extensions.public_reference",
    "docs.extensions.docstrings",
    "docs.extensions.references",
    "docs.extensions.annotations",
    "docs.extensions.repository",
    "docs.extensions.moving_pictures",
    "docs.extensions.transcripts",
    "docs.extensions.commands",
]
exclude_patterns = ["images", "extensions", "**/__pycache__"]
nitpicky = True
nitpick_ignore_regex = [
    # The port calls `Permission.check`, with the wire's requests (tests/test_public_signatures.py).
    ("py:class", r"trioraft\.rpc\.protocol\.\w+"),
    # What `through` returns where a class has no handle of its own; docs/replicated-objects.md.
    ("py:class", r"trioraft\.machines\.replicated\.handle\.\w+"),
    # What a node hands to its meter, which is not for users to call.
    ("py:class", r"trioraft\.core\.raft\.Raft"),
    ("py:class", r"trioraft\.tasks\.byte_budget\.ByteBudget"),
    # What a process keeps of its group, which is not for users to touch.
    ("py:class", r"trioraft\.(node\.runner\.NodeRunner|node\.hosting\.MachineAt)"),
    ("py:class", r"trioraft\.groups\.group\.Slept"),
    # Private stand-ins in the signatures of what is made for its users.
    ("py:attr", r"trioraft\.testing\.linearizability\.models\.Unseen\.UNSEEN"),
    ("py:class", r"trioraft\.testing\.networks\.(_Carrier|Cuts)"),
    ("py:class", r"trioraft\.transport\.memory\.NetworkFaults"),
    ("py:class", r"trioraft\.tracing\.spans\.CommandSpans"),
]

# -- text --
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 4  # as GitHub has them, so that links work in both places
myst_linkify_fuzzy_links = False
highlight_language = "text"
default_role = "literal"  # a single backtick, in the commands' help
smartquotes_action = "qe"  # `--` is an option, no dash
pygments_dark_style = "github-dark"

# -- docstrings (docs/style.md) --
napoleon_numpy_docstring = False
napoleon_use_rtype = False
add_module_names = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
maximum_signature_line_length = 88

# -- pages --
html_theme = "furo"
html_title = f"trioraft {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"sidebar_hide_name": False}
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
