"""The accounting service: invoices, payments, audit trail and e-mail beside a hosting platform."""

from importlib.metadata import version

__version__ = version("accounting")
