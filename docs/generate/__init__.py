"""Pages of the documentation that are made from the code: keys, columns, commands, public names, pictures.

Each module has one function ``pages()`` that returns {address of the page: Markdown}. `hooks` gives them to MkDocs, and
tests/house/test_docs.py reads them. Nothing here is part of the packages.
"""
