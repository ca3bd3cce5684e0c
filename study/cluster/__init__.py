"""The only room that imports ray: sessions, Tune's scheduler and searcher, the lease of a training."""
