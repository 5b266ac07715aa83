"""Mean absolute input of every connection while a network trains."""
