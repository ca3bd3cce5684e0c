"""A study in words: sections of blocks, written as HTML and Markdown."""
