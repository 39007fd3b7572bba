"""Events of the ledger, told one by one."""
