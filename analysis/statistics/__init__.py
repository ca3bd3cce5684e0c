"""Frame → frame: means, variances, comparisons, importance. Neither matplotlib nor seaborn."""
