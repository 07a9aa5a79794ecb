"""The tables: declared, read, written, checked, queried, and the runs that changed them."""
