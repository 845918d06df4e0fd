"""Stores in a bucket: build, bring up to date, repair."""
