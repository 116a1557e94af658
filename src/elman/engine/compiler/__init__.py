"""A call under torch.compile and torch.export: one operator, seen from outside."""
