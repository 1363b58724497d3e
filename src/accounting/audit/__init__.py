"""The audit trail: who did what, when, from where; written with the change, never altered."""
