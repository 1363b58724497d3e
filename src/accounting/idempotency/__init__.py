"""A request that is sent again under its Idempotency-Key has its effect once."""
