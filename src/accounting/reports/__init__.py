"""What the books say: a customer's account, his statement, how late the open invoices are."""
