"""Taking old, closed invoices out of the database, into a folder that can be read back."""
