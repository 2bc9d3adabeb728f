"""What is bought, from whom, and when to stop."""
