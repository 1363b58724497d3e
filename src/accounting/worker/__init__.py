"""The worker edge: Celery tasks over the same use cases that the API and the command call."""
