"""What customers open in a browser from their e-mails: the invoice as it stands, and reminders."""
