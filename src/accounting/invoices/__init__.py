"""Invoices: the aggregate, from draft to issued, overdue, paid, cancelled or refunded."""
