"""Batch runs: many small pieces of work, done by the workers, each with its own result."""
