"""Parameters, masks and their statistics; knows no rule and no optimizer."""
