"""Average precision, the quality of pseudo labels, scores without labels."""
