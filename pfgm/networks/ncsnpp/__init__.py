"""The PFGM authors' NCSN++."""
