"""What is counted of a rollout, and what the counts say of the challenger beside the champion."""
