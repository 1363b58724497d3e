"""The HTTP edge: parse, authorise, run a use case, answer."""
