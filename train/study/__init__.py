"""A study: a grid of pre-trainings, fine-tunings and scores, run from one file, and its report."""

# Layouts of the paper that a grid can fill; "defects" is ours, for what is wrong in the released code.
TABLES = ("methods", "labels", "make3d", "defects")
