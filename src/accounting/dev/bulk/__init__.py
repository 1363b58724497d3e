"""Demo data in bulk: years of invoices of many customers, for trying and measuring large stores."""
