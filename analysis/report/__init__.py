"""Write a study in words, tables and figures.

Imports every other room. A new section is one file in `sections` and one line in its list.
"""
