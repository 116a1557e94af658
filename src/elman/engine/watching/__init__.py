"""What a step reads and changes beside its inputs: seen, walked, watched, put back."""
