"""Every fact of the handbook in literal NumPy, right beside wrong, and the ledger and the check built on them."""
