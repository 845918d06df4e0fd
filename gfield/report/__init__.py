"""The report of a store: what is in it, how its frames are, and which of them do not fit, as one page."""
