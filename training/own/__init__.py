"""Training of models on a company's own table: from a plan to a registered version."""
