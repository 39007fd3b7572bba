"""Tenants, projects, and the keys that name them."""
