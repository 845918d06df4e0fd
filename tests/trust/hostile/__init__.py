"""Hostile files, each made by a small function, with the command that is handed it and what that has to say."""
