"""E-mails to customers: what they say, how they are queued, and how they are sent."""
