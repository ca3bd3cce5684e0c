"""The only room that imports ray: sessions, Tune's scheduler and searcher, the lease of a training; may import the others.

Another way to run trials stands beside it, as `study.inline` does.
"""
