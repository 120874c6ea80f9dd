"""Which layers stay float so that budgets on accuracy, time and size hold, and what each costs."""
