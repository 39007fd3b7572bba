"""The tamper-evident log of every control action."""
