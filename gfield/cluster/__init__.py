"""Where a build's tasks run: threads of this process, or workers of a cluster, and whether those are fit for it."""
