"""The accounting service: invoices, payments, audit trail and e-mail beside a hosting platform."""
