"""Wire to domain and back, and nothing else: one folder a protocol; none knows another."""
