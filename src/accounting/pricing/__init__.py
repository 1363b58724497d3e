"""Prices per customer, in windows of days that never overlap."""
