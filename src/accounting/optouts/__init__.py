"""Which customers want no reminders by e-mail; invoices still reach them."""
