"""Frame → Axes. Nothing is computed here that another place could want to know."""
