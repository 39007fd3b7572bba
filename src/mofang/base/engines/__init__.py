"""How an artifact computes: one Protocol, one file per framework, found by name."""
