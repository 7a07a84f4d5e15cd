"""Retraining: from what was decided, and what came of it, to a challenger that passed the gates."""
