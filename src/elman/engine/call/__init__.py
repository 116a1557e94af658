"""One call over a sequence: its tensors, the ways to carry it out, and what is under way around it."""
