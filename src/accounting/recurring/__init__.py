"""Recurring invoices: the templates from which invoices are generated each month."""
