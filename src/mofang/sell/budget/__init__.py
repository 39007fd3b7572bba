"""Budgets: nobody uses more than was agreed, however many gateways answer at once."""
