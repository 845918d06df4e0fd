"""Stores as other people's formats: one file a format, each writing into a folder (or a file) that it is given."""
