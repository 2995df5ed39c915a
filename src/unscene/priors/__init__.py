"""What is added to a model's objective."""
