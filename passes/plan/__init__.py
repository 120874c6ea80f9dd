"""Facts in, QuantPlan out: granularity, ranges, sharing, saturation, bias range."""
