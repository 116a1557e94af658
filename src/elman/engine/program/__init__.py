"""What a step becomes: the Program, its op table, and what it means in torch."""
