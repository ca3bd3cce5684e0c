"""One section of the report a file: answers, what was measured, the record."""
