"""The host's users, cost payments, miners and revoked tokens, read only (spec section 2)."""
