"""A cluster that runs, watched: what is known of it, for the terminal and for a page."""
