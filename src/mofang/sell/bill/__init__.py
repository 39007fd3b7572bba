"""Billing: usage times price book, as invoices that can be recomputed to the byte."""
