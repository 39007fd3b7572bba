"""From an answer to an invoice: meter, bill."""
