"""`trioraft serve`."""
